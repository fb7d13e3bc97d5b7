-- Sets an entry unless a later transaction's is there: of two transactions on one key, the later one's outcome stays, in
-- whatever order they arrive. The entry of a transaction that dropped its key is a short-lived one of its own kind.
--
-- KEYS[1]  where the entry lies
-- ARGV[1]  the new entry, header first (see header.rs)
-- ARGV[2]  its life in milliseconds; 0 is for ever
-- Result   1 if it was set, 0 if a later one is there or there was an entry of a later format
--
-- Safe with any content: what is no string, no entry or of another generation is overwritten. An entry of a later format
-- (a newer release beside this one) cannot be compared and is not overwritten; as it may be older than this write, it is
-- deleted. Versions are compared as two halves, as a Lua number holds 53 bits.
local new = ARGV[1]
local old = redis.pcall('GETRANGE', KEYS[1], 0, 39)
if type(old) == 'string' and #old >= 2 and string.sub(old, 1, 1) == string.sub(new, 1, 1) then
  if string.byte(old, 2) > string.byte(new, 2) then
    redis.call('DEL', KEYS[1])
    return 0
  end
  -- What was accepted and not committed is older than any transaction that is.
  if #old == 40 and string.sub(old, 2, 2) == string.sub(new, 2, 2) and string.byte(old, 4) == 0
      and string.sub(old, 9, 16) == string.sub(new, 9, 16) then
    local old_high, old_low = struct.unpack('>I4I4', string.sub(old, 17, 24))
    local new_high, new_low = struct.unpack('>I4I4', string.sub(new, 17, 24))
    if old_high > new_high or (old_high == new_high and old_low > new_low) then
      return 0
    end
  end
end
if ARGV[2] == '0' then
  redis.call('SET', KEYS[1], new)
else
  redis.call('SET', KEYS[1], new, 'PX', ARGV[2])
end
return 1
