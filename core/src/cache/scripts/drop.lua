-- Drops what is there: an entry, a lease. Writers under way keep their fence, and it is dirty.
--
-- Result   1 if there was something
local was = 1
if not soil() then was = redis.call('DEL', at) end
tell()
return was
