-- A reader that missed asks whether it is the one to load. A lease ends with anything that is written there.
--
-- ARGV[3]  its lease (see header.rs)   ARGV[4]  ms after which it counts as gone
-- ARGV[5]  the head of what the reader saw and could not use, its tags included, or empty
-- Result   "yours"; "busy" if somebody else loads; "closed" if a writer is under way, or a later release wrote what is
--          there; else the entry that is there now
if read_fence() then return 'closed' end
local old = redis.pcall('GET', at)
if type(old) ~= 'string' then old = '' end
local kind = string.sub(old, 1, 3)
if is_later(old) then return 'closed' end
if kind == string.char(0xB7, 1, 3) then return 'busy' end
local entry = is_value(old) or kind == string.char(0xB7, 1, 2)
if entry and string.sub(old, 1, math.max(#ARGV[5], 40)) ~= ARGV[5] then return old end
redis.call('SET', at, ARGV[3], 'PX', ARGV[4])
return 'yours'
