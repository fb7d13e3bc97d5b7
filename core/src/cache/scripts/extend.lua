-- Gives a lock a new life, if it is still the holder's.
--
-- KEYS[1]  the lock   ARGV[1]  the holder   ARGV[2]  its life in ms, from now on
-- Result   1 if it was, else 0
local held = redis.pcall('GET', KEYS[1])
if type(held) ~= 'string' or string.sub(held, 1, 17) ~= ARGV[1] .. ' ' then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
