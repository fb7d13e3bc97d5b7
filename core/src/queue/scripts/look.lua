-- Says how the queue stands; changes nothing.
--
-- ARGV[1]  epoch of whoever asks, then operations
-- Result   {all, due later, due, suspects, leased, age in ms of what is due for longest, 1 if paused, done, retried, dead,
--           replaced, cancelled, damaged, then 1 for each operation that has not ended and 0 for the others};
--          {epoch} if the queue is another database's
local epoch = redis.call('HGET', state, 'epoch')
if epoch and is_of_other(epoch, ARGV[1]) then return {epoch} end
local function counted(name) return tonumber(redis.call('HGET', state, name) or 0) end
local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
local age = 0
if first[2] then age = math.max(now - tonumber(first[2]), 0) end
local answer = {
  redis.call('HLEN', bodies), redis.call('ZCOUNT', due, '(' .. now, '+inf'), redis.call('ZCOUNT', due, '-inf', now),
  redis.call('ZCARD', suspects), redis.call('ZCARD', leased), age, redis.call('HEXISTS', state, 'paused'),
  counted('done'), counted('retried'), counted('dead'), counted('replaced'), counted('cancelled'), counted('damaged'),
}
for i = 2, #ARGV do table.insert(answer, redis.call('HEXISTS', bodies, ARGV[i])) end
return answer
