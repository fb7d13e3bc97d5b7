-- Sets what a reader loaded, if its lease lived all the time. Nobody is told: what others hold is as good.
--
-- ARGV[3]  the lease   ARGV[4]  the entry   ARGV[5]  its life in ms, 0 for ever
-- Result   1 if it was set, else 0
if redis.pcall('GETRANGE', at, 0, 40) ~= ARGV[3] then return 0 end
set(ARGV[4], ARGV[5])
return 1
