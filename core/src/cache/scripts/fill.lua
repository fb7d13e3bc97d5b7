-- Sets what a reader loaded, if its lease lived all the time. Nobody is told: what others hold is as good.
--
-- ARGV[3]  the lease, or the head of the entry and the token of the mark behind it
-- ARGV[4]  the entry   ARGV[5]  its life in ms, 0 for ever
-- Result   1 if it was set, else 0
if not holds(ARGV[3]) then return 0 end
set(ARGV[4], ARGV[5])
return 1
