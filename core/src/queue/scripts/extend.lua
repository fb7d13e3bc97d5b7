-- Extends leases.
--
-- ARGV[1]  epoch of whoever asks   ARGV[2]  length of a lease in ms, then two for each: operation, attempt
-- Result   {how many it has, how many it has not, the latter}; {epoch} if the queue is another database's
go_on_although_full()
local epoch = redis.call('HGET', state, 'epoch')
if epoch and is_of_other(epoch, ARGV[1]) then return {epoch} end
local answer = {0, 0}
for i = 3, #ARGV, 2 do
  local op, attempt = ARGV[i], tonumber(ARGV[i + 1])
  if run_of(op) == attempt and redis.call('ZSCORE', leased, op) then
    redis.call('ZADD', leased, now + tonumber(ARGV[2]), op)
    answer[1] = answer[1] + 1
  else
    answer[2] = answer[2] + 1
    table.insert(answer, op)
  end
end
return answer
