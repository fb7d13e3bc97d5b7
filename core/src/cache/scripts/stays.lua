
-- Whether what is there is the value that came with a write which commits later than it was cached, or that of a write
-- accepted after it. `digest` is the SHA-1 of such a value in hexadecimal, `sequence` the accept sequence from which on
-- values may stay, as 8 bytes; either may be empty. `generation` is that of now, as 8 bytes.
--
-- Sequences are compared as two halves, as a Lua number holds 53 bits.
local function may_stay(digest, sequence, generation)
  local head = redis.pcall('GETRANGE', at, '0', '39')
  if not is_value(head) or #head < 40 or string.sub(head, 9, 16) ~= generation then return false end
  -- To make a longer one's would hold everybody up: it does not stay.
  if digest ~= '' and redis.call('STRLEN', at) <= 262144 then
    local text = redis.call('GET', at)
    if redis.sha1hex(string.sub(text, value_at(text), end_of(text))) == digest then return true end
  end
  if sequence == '' then return false end
  local old_high, old_low = struct.unpack('>I4I4', string.sub(head, 17, 24))
  local high, low = struct.unpack('>I4I4', sequence)
  return old_high > high or (old_high == high and old_low >= low)
end

-- The same; and a mark behind what stays ends: whoever loads the key anew may have read the row from before the COMMIT.
local function stays(digest, sequence, generation)
  if not may_stay(digest, sequence, generation) then return false end
  local behind = end_of(redis.call('GETRANGE', at, '0', '39'))
  if redis.call('STRLEN', at) > behind then
    redis.call('SETRANGE', at, behind, string.rep('\0', 8) .. string.rep('0', 13))
  end
  return true
end

