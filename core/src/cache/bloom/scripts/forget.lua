-- Lets the strings of a generation go that nobody will ask any more, whatever they hold: nobody else has these names.
--
-- KEYS     the marker, then chunks   ARGV[1]  ms after which they are gone
-- Result   how many there were
local there = 0
for _, name in ipairs(KEYS) do there = there + redis.call('PEXPIRE', name, ARGV[1]) end
return there
