-- Keeps a lease for longer, or gives it back.
--
-- ARGV[3]  the lease, or the head of the entry and the token of the mark behind it
-- ARGV[4]  ms from now on; 0 gives it back
-- Result   1 if it was still there, else 0
if not holds(ARGV[3]) then return 0 end
if #ARGV[3] > 40 then
  redis.call('SETRANGE', at, end_of(ARGV[3]) + 8, string.format('%013.0f', now + tonumber(ARGV[4])))
else
  redis.call('PEXPIRE', at, ARGV[4])
end
return 1
