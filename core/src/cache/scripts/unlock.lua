-- Gives a lock back, if it is still the holder's, and wakes who waits for it.
--
-- KEYS[1]  the lock   ARGV[1]  the holder   ARGV[2]  the channel of the bus   ARGV[3]  the message that a lock is free
-- Result   1 if it was, else 0
local held = redis.pcall('GET', KEYS[1])
if type(held) ~= 'string' or string.sub(held, 1, 17) ~= ARGV[1] .. ' ' then return 0 end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[2], ARGV[3])
return 1
