-- Takes back an operation that no worker has.
--
-- ARGV[1]  operation
-- Result   1 taken back, 2 a worker has it, 0 it is not there
local op = ARGV[1]
local body = redis.call('HGET', bodies, op)
if not body then return 0 end
if redis.call('ZSCORE', leased, op) then return 2 end
if redis.call('ZREM', due, op) + redis.call('ZREM', suspects, op) > 0 then
  let_next(op, lane_of(body))
else
  -- In the middle of its lane, which passes over it.
  redis.call('HDEL', bodies, op)
  redis.call('HDEL', runs, op)
end
redis.call('HINCRBY', state, 'cancelled', 1)
return 1
