-- Stops workers from leasing, or lets them go on.
--
-- ARGV[1]  "1" to pause, "0" to resume
-- Result   1
if ARGV[1] == '1' then
  redis.call('HSET', state, 'paused', '1')
else
  redis.call('HDEL', state, 'paused')
end
return 1
