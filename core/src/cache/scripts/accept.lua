-- Sets the value of a write that was accepted and is not committed yet, unless that of a later accepted one is there: of
-- two, the later accepted stays, in whatever order they arrive. What a transaction left is older than either. While writers
-- are under way it makes their fence dirty instead; a cover gives way to it.
--
-- ARGV[3]  the entry, its accept sequence within   ARGV[4]  its life in ms, 0 for ever
-- Result   1 if it was set, else 0
--
-- Sequences are compared as two halves, as a Lua number holds 53 bits.
if soil(true) then
  tell()
  return 0
end
local new = ARGV[3]
local old = redis.pcall('GETRANGE', at, '0', '39')
if is_value(old) and #old == 40
    and string.sub(old, 9, 16) == string.sub(new, 9, 16) then
  local old_high, old_low = struct.unpack('>I4I4', string.sub(old, 17, 24))
  local new_high, new_low = struct.unpack('>I4I4', string.sub(new, 17, 24))
  if old_high > new_high or (old_high == new_high and old_low > new_low) then
    return 0
  end
end
set(new, ARGV[4])
tell()
return 1
