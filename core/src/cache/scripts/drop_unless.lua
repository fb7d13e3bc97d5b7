-- Drops a key for a write that commits later than it was cached, unless what is there is the value that was put there with
-- it, or that of a write accepted after it.
--
-- ARGV[3]  SHA-1 of the value that may stay, in hexadecimal, or empty
-- ARGV[4]  the accept sequence from which on values may stay, as 8 bytes, or empty
-- ARGV[5]  the generation, as 8 bytes
-- Result   1 if the value stayed, 0 if the key is dropped
--
-- Sequences are compared as two halves, as a Lua number holds 53 bits.
if soil() then
  tell()
  return 0
end
local old = redis.pcall('GET', at)
if is_value(old) and #old >= 40
    and string.sub(old, 9, 16) == ARGV[5] then
  if ARGV[3] ~= '' and redis.sha1hex(string.sub(old, value_at(old), end_of(old))) == ARGV[3] then
    return 1
  end
  if ARGV[4] ~= '' then
    local old_high, old_low = struct.unpack('>I4I4', string.sub(old, 17, 24))
    local high, low = struct.unpack('>I4I4', ARGV[4])
    if old_high > high or (old_high == high and old_low >= low) then
      return 1
    end
  end
end
redis.call('DEL', at)
tell()
return 0
