-- Sets a value if there is none. An absence is none, and a lease ends; while writers are under way nothing happens.
--
-- ARGV[3]  the entry   ARGV[4]  its life in ms, 0 for ever
-- ARGV[5]  the head of what the caller saw and knows to be none, or empty
-- Result   1 if it was set, else 0
if read_fence() then return 0 end
local old = redis.pcall('GETRANGE', at, '0', math.max(#ARGV[5], 40) - 1)
if is_later(old) or (is_value(old) and old ~= ARGV[5]) then return 0 end
set(ARGV[3], ARGV[4])
tell()
return 1
