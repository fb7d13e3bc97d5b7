-- Drops a key for a transaction that changed it, unless what is there is the value that was put there with the change:
-- a batch commits later than its values are cached. Otherwise as set_newer.lua with an entry of the kind "dropped": older
-- values that arrive later are kept out, and a later transaction's entry stays.
--
-- KEYS[1]  where the entry lies
-- ARGV[1]  the entry of the drop, header only (see header.rs)
-- ARGV[2]  its life in milliseconds
-- ARGV[3]  SHA-1 of the value that may stay, in hexadecimal, or empty
-- ARGV[4]  the accept sequence from which on values may stay, as 8 bytes, or empty
-- Result   1 if the value stayed, 0 if the key is dropped or a later transaction's entry is there
--
-- Safe with any content: what is no string, no entry or of another generation is dropped. Versions are compared as two
-- halves, as a Lua number holds 53 bits.
local new = ARGV[1]
local old = redis.pcall('GET', KEYS[1])
if type(old) == 'string' and #old >= 40 and string.sub(old, 1, 2) == string.sub(new, 1, 2)
    and string.sub(old, 9, 16) == string.sub(new, 9, 16) then
  local old_high, old_low = struct.unpack('>I4I4', string.sub(old, 17, 24))
  local accepted = string.byte(old, 4) == 1
  if ARGV[3] ~= '' and redis.sha1hex(string.sub(old, 41)) == ARGV[3] then
    return 1
  end
  if ARGV[4] ~= '' and accepted then
    local high, low = struct.unpack('>I4I4', ARGV[4])
    if old_high > high or (old_high == high and old_low >= low) then
      return 1
    end
  end
  local new_high, new_low = struct.unpack('>I4I4', string.sub(new, 17, 24))
  if not accepted and (old_high > new_high or (old_high == new_high and old_low > new_low)) then
    return 0
  end
end
redis.call('SET', KEYS[1], new, 'PX', ARGV[2])
return 0
