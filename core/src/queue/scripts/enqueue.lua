-- Accepts an operation, once: a second call with the same one finds the first.
--
-- ARGV[1]  operation   ARGV[2]  payload   ARGV[3]  delay in ms   ARGV[4]  lane, empty for none
-- ARGV[5]  "+" if it may replace the last of its lane, and be replaced, as long as that has not started; else "-"
-- ARGV[6]  epoch that the queue gets if it has none   ARGV[7]  the highest sequence that the caller has seen
-- Result   {1 accepted | 2 was there, accept sequence, epoch, the operation it replaced or "",
--           1 if the queue knew less than the caller, and so has lost something, else 0};
--           {epoch} if it is another database's
--
-- The sequence is Redis' time in microseconds or more, so that a queue that has lost data goes on above what it had given.
local op, payload, lane, mark = ARGV[1], ARGV[2], ARGV[4], ARGV[5]
local standing = redis.call('HMGET', state, 'epoch', 'sequence')
local epoch = standing[1] or ARGV[6]
if is_of_other(epoch, ARGV[6]) then return {epoch} end
local last, known = tonumber(standing[2] or 0), tonumber(ARGV[7])
local sequence = string.format('%016.0f', math.max(last + 1, known + 1, time[1] * 1000000 + time[2]))
local at = now + tonumber(ARGV[3])
local tail = lane ~= '' and redis.call('HGET', tails, lane)
-- One whose body somebody has removed brings nobody behind it to its turn.
if tail and redis.call('HEXISTS', bodies, tail) == 0 then tail = false end
local old = tail and mark == '+' and tail ~= op and redis.call('HGET', bodies, tail)
local replaces = old and string.sub(old, 14, 14) == '+' and redis.call('HEXISTS', runs, tail) == 0
if replaces then
  -- Not later than the one it replaces: one that is replaced again and again would never run.
  at = math.min(at, tonumber(string.sub(old, 1, 13)))
end
local text = string.format('%013.0f', at) .. mark .. sequence .. string.format('%05d', #lane) .. lane .. payload
if redis.call('HSETNX', bodies, op, text) == 0 then
  return {2, string.sub(redis.call('HGET', bodies, op), 15, 30), epoch, '', 0}
end
redis.call('HSET', state, 'epoch', epoch, 'sequence', sequence)
if replaces then
  redis.call('HDEL', bodies, tail)
  redis.call('HSET', tails, lane, op)
  if redis.call('ZREM', due, tail) == 1 then
    redis.call('ZADD', due, at, op)
  else
    local before = redis.call('HGET', befores, tail)
    redis.call('HDEL', befores, tail)
    redis.call('HSET', befores, op, before)
    redis.call('HSET', nexts, before, op)
  end
  redis.call('HINCRBY', state, 'replaced', 1)
elseif tail then
  redis.call('HSET', nexts, tail, op)
  redis.call('HSET', befores, op, tail)
  redis.call('HSET', tails, lane, op)
else
  if lane ~= '' then
    redis.call('HSET', tails, lane, op)
  end
  redis.call('ZADD', due, at, op)
end
return {1, sequence, epoch, replaces and tail or '', standing[2] and last < known and 1 or 0}
