-- Takes back an operation that no worker has.
--
-- ARGV[1]  operation
-- Result   {1 taken back | 2 a worker has it | 0 it is not there, its lane, its accept sequence}
local op = ARGV[1]
local body = redis.call('HGET', bodies, op)
if not body then return {0, '', 0} end
if redis.call('ZSCORE', leased, op) then return {2, '', 0} end
if redis.call('ZREM', due, op) + redis.call('ZREM', suspects, op) > 0 then
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
