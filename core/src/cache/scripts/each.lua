
-- Between common.lua and a script about one key: the same for many keys at once, each as if it were alone. each_end.lua is
-- behind it.
--
-- KEYS     where the keys' records lie
-- ARGV[1]  the channel of the bus   ARGV[2...]  for each key, one after the other, what a run about it alone has from
--          ARGV[2] on; equally many for each
-- Result   for each key that of its run, or, as a string, the code of the error that ended it
--
-- Safe with any content, as each run is. One that fails leaves the others as they are, and all that was changed is told of.
local all, given, told = KEYS, ARGV, {}
local ARGV = {}
local function tell() told[#told + 1] = message end

local function one()
