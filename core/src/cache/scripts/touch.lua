-- Gives a value another end, if it is still the one that the caller saw. Its header says the same of the value as before, so
-- that it is right for any value with the header seen.
--
-- ARGV[3]  the header that was seen   ARGV[4]  the one to put in its place   ARGV[5]  its life in ms, 0 for ever
-- ARGV[6]  "1" if it ends earlier than before: who holds a copy has to hear of that
-- Result   1 if it was there, else 0
if redis.pcall('GETRANGE', at, '0', '39') ~= ARGV[3] then return 0 end
redis.call('SETRANGE', at, '0', ARGV[4])
if ARGV[5] == '0' then redis.call('PERSIST', at) else redis.call('PEXPIRE', at, ARGV[5]) end
if ARGV[6] == '1' then tell() end
return 1
