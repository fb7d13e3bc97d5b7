-- Keeps a lease for longer, or gives it back.
--
-- ARGV[3]  the lease   ARGV[4]  ms from now on; 0 gives it back
-- Result   1 if it was still there, else 0
if redis.pcall('GETRANGE', at, 0, 40) ~= ARGV[3] then return 0 end
redis.call('PEXPIRE', at, ARGV[4])
return 1
