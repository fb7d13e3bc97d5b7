-- Says of leased operations that their worker begins them, and finds out which of them it no longer has.
--
-- ARGV[1]  epoch of whoever asks, then two for each: operation, attempt; at least one and a thousand at the most
-- Result   {how many it has, how many it has not, the latter}; {epoch} if the queue is another database's
--
-- A second time it changes nothing, so that it may be sent again. The lease ends when it would have.
go_on_although_full()
local epoch = redis.call('HGET', state, 'epoch')
if epoch and is_of_other(epoch, ARGV[1]) then return {epoch} end
local ops = {}
for i = 2, #ARGV, 2 do table.insert(ops, ARGV[i]) end
local texts = redis.call('HMGET', runs, unpack(ops))
local answer, begun = {0, 0}, {}
for i, op in ipairs(ops) do
  local attempt = tonumber(ARGV[2 * i + 1])
  local last, crashes, errors = run_in(texts[i])
  if last == attempt and redis.call('ZSCORE', leased, op) then
    table.insert(begun, op)
    table.insert(begun, run_text(attempt, crashes, errors, attempt))
    answer[1] = answer[1] + 1
  else
    answer[2] = answer[2] + 1
    table.insert(answer, op)
  end
end
if #begun > 0 then redis.call('HSET', runs, unpack(begun)) end
return answer
