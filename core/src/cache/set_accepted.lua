-- Sets the value of a write that was accepted and is not committed yet, unless that of a later accepted one is there: of
-- two, the later accepted stays, in whatever order they arrive. What a transaction left is older than either.
--
-- KEYS[1]  where the entry lies
-- ARGV[1]  the new entry, header first (see header.rs), its version an accept sequence
-- ARGV[2]  its life in milliseconds; 0 is for ever
-- Result   1 if it was set, 0 if a later accepted one is there
--
-- Safe with any content: what is no string, no entry or of another generation is overwritten. Sequences are compared as two
-- halves, as a Lua number holds 53 bits.
local new = ARGV[1]
local old = redis.pcall('GETRANGE', KEYS[1], 0, 39)
if type(old) == 'string' and #old == 40 and string.sub(old, 1, 4) == string.sub(new, 1, 4)
    and string.sub(old, 9, 16) == string.sub(new, 9, 16) then
  local old_high, old_low = struct.unpack('>I4I4', string.sub(old, 17, 24))
  local new_high, new_low = struct.unpack('>I4I4', string.sub(new, 17, 24))
  if old_high > new_high or (old_high == new_high and old_low > new_low) then
    return 0
  end
end
if ARGV[2] == '0' then
  redis.call('SET', KEYS[1], new)
else
  redis.call('SET', KEYS[1], new, 'PX', ARGV[2])
end
return 1
