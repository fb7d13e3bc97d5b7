-- Takes back an operation that no worker has begun. One that has leased it finds out when it begins.
--
-- ARGV[1]  operation   ARGV[2]  epoch of whoever asks
-- Result   {1 taken back | 2 a worker has begun it, now or before | 0 it is not there, its lane, its accept sequence}
go_on_although_full()
local op = ARGV[1]
local epoch = redis.call('HGET', state, 'epoch')
if epoch and is_of_other(epoch, ARGV[2]) then return {epoch} end
local body = redis.call('HGET', bodies, op)
if not body then return {0, '', 0} end
-- Of one that was begun once nobody here knows whether it has had its effect.
local _, _, _, begun = run_of(op)
if begun > 0 then return {2, '', 0} end
if redis.call('ZREM', due, op) == 1 or redis.call('ZREM', leased, op) == 1 then
  let_next(op, lane_of(body))
else
  -- Its neighbours in the lane close up.
  local before, behind = redis.call('HGET', befores, op), redis.call('HGET', nexts, op)
  redis.call('HDEL', befores, op)
  redis.call('HDEL', nexts, op)
  redis.call('HDEL', bodies, op)
  if behind then
    redis.call('HSET', befores, behind, before)
    redis.call('HSET', nexts, before, behind)
  else
    redis.call('HDEL', nexts, before)
    redis.call('HSET', tails, lane_of(body), before)
  end
end
redis.call('HINCRBY', state, 'cancelled', 1)
return {1, lane_of(body), string.sub(body, 15, 30)}
