-- A reader asks whether it is the one to load. A lease ends with anything that is written there. Where there is an entry that
-- may still be read, be it fresh or the last good value, the lease is a mark behind it.
--
-- ARGV[3]  its lease (see header.rs)   ARGV[4]  ms after which it counts as gone
-- ARGV[5]  the head of what the reader saw and wants anew, its tags included, or empty
-- ARGV[6]  the token of its mark, if that is an entry which may still be read, else empty
-- Result   "yours"; "marked" if the lease is a mark; "busy" if somebody else loads; "closed" if a writer is under way, or a
--          later release wrote what is there; else the entry that is there now
local fence = read_fence()
if fence then
  -- This reader goes on to the source, and may find there what a writer left who could put up no fence. What was put aside
  -- may be older, and is not put back.
  if fence.aside ~= '' then
    fence.aside = ''
    write_fence(fence)
  end
  return 'closed'
end
local old = redis.pcall('GET', at)
if type(old) ~= 'string' then old = '' end
local kind = string.sub(old, 1, 3)
if is_later(old) then return 'closed' end
if kind == string.char(0xB7, 1, 3) then return 'busy' end
local entry = is_value(old) or kind == string.char(0xB7, 1, 2)
if entry and string.sub(old, 1, math.max(#ARGV[5], 40)) ~= ARGV[5] then return old end
if entry and ARGV[6] ~= '' then
  local behind = end_of(old)
  if (tonumber(string.sub(old, behind + 9, behind + 21)) or 0) > now then return 'busy' end
  redis.call('SETRANGE', at, behind, ARGV[6] .. string.format('%013.0f', now + tonumber(ARGV[4])))
  return 'marked'
end
redis.call('SET', at, ARGV[3], 'PX', ARGV[4])
return 'yours'
