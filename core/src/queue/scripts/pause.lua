-- Stops workers from leasing, or lets them go on.
--
-- ARGV[1]  "1" to pause, "0" to resume   ARGV[2]  epoch of whoever asks
-- Result   1, or 0 if the queue is another database's
go_on_although_full()
local epoch = redis.call('HGET', state, 'epoch')
if epoch and is_of_other(epoch, ARGV[2]) then return 0 end
if ARGV[1] == '1' then
  redis.call('HSET', state, 'paused', '1')
else
  redis.call('HDEL', state, 'paused')
end
return 1
