-- Leases what is due, and finds out whose worker did not come back.
--
-- ARGV[1]  at most so many   ARGV[2]  length of a lease in ms   ARGV[3]  epoch that the queue gets if it has none
-- ARGV[4]  "suspect" for one of those whose worker did not come back, "due" for the others
-- Result   {epoch, sequence, ms until something is due or a lease ends, or -1, suspects that are due, further others,
--           Redis' time in ms, then for each: operation, attempt, crashes, errors, body};
--           {epoch} if the queue is another database's
--
-- Each lease has a number of its own, the attempt: whoever comes back with an older one is not heard. It is never given
-- again, also not to an operation of the same name that is accepted once this one is gone.
--
-- A lease that ends without a word is a crash of its worker if that had begun the operation. If not, the worker ended
-- before, or was never told of the lease: then nothing has happened.
local limit, lease = tonumber(ARGV[1]), tonumber(ARGV[2])
go_on_although_full()
local epoch = redis.call('HGET', state, 'epoch')
if not epoch then
  epoch = ARGV[3]
  redis.call('HSET', state, 'epoch', epoch)
end
if is_of_other(epoch, ARGV[3]) then return {epoch} end
for _, op in ipairs(redis.call('ZRANGEBYSCORE', leased, '-inf', now, 'LIMIT', 0, 100)) do
  redis.call('ZREM', leased, op)
  local attempt, crashes, errors, begun = run_of(op)
  if begun == attempt then
    crashes = crashes + 1
    set_run(op, attempt, crashes, errors, begun)
  end
  wait_again(op, now, crashes)
end
local from = due
if ARGV[4] == 'suspect' then from = suspects end
local claimed = {}
local wanted = {}
if redis.call('HEXISTS', state, 'paused') == 0 and limit > 0 then
  wanted = redis.call('ZRANGEBYSCORE', from, '-inf', now, 'LIMIT', 0, limit)
end
-- An answer that is too long would come too late, and its leases would be nobody's.
local length, fits = 0, 0
for _, op in ipairs(wanted) do
  length = length + redis.call('HSTRLEN', bodies, op)
  if fits > 0 and length > 4194304 then break end
  fits = fits + 1
end
for i = #wanted, fits + 1, -1 do wanted[i] = nil end
if #wanted > 0 then
  redis.call('ZREM', from, unpack(wanted))
  local texts = redis.call('HMGET', bodies, unpack(wanted))
  local before = redis.call('HMGET', runs, unpack(wanted))
  local after, leases = {}, {}
  local given = redis.call('HINCRBY', state, 'leases', #wanted) - #wanted
  for i, op in ipairs(wanted) do
    if texts[i] then
      local _, crashes, errors, begun = run_in(before[i])
      table.insert(after, op)
      table.insert(after, run_text(given + i, crashes, errors, begun))
      table.insert(leases, now + lease)
      table.insert(leases, op)
      table.insert(claimed, op)
      table.insert(claimed, given + i)
      table.insert(claimed, crashes)
      table.insert(claimed, errors)
      table.insert(claimed, texts[i])
    else
      -- Somebody has been at the keys.
      redis.call('HINCRBY', state, 'damaged', 1)
      local next = redis.call('HGET', nexts, op)
      local body = next and redis.call('HGET', bodies, next)
      let_next(op, body and lane_of(body) or '')
    end
  end
  if #after > 0 then
    redis.call('HSET', runs, unpack(after))
    redis.call('ZADD', leased, unpack(leases))
  end
end
-- What is due already and was not leased waits for whoever asks, or for a resume.
local wait = -1
for _, set in ipairs({due, suspects, leased}) do
  local from = set == leased and '-inf' or '(' .. string.format('%.0f', now)
  local first = redis.call('ZRANGEBYSCORE', set, from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if first[2] then
    local left = math.max(tonumber(first[2]) - now, 0)
    if wait < 0 or left < wait then wait = left end
  end
end
local answer = {
  epoch, redis.call('HGET', state, 'sequence') or '0', wait,
  redis.call('ZCOUNT', suspects, '-inf', now), redis.call('ZCOUNT', due, '-inf', now), string.format('%.0f', now),
}
for _, part in ipairs(claimed) do table.insert(answer, part) end
return answer
