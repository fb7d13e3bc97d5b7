-- Entries and leases (see header.rs).

-- Whether this is the beginning of a value's entry; a tagged one has another kind (see header.rs).
local function is_value(text)
  local kind = type(text) == 'string' and string.sub(text, 1, 3)
  return kind == string.char(0xB7, 1, 1) or kind == string.char(0xB7, 1, 5)
end

-- Where the value in its entry begins: in a tagged one behind its tags (see tagged.rs).
local function value_at(text)
  if string.sub(text, 3, 3) == string.char(1) or #text < 44 then return 41 end
  return 41 + struct.unpack('>I4', string.sub(text, 41, 44))
end

-- Whether a later release wrote this.
local function is_later(text)
  return type(text) == 'string' and string.sub(text, 1, 1) == string.char(0xB7) and (string.byte(text, 2) or 0) > 1
end

-- Where an entry's value ends, by its head.
local function end_of(head)
  return 40 + struct.unpack('>I4', string.sub(head, 5, 8))
end

-- Whether a reader's lease still lives: it is the record, or a mark behind the entry that the reader saw. A mark that nobody
-- took over counts after its time too, as nothing has happened to the entry.
local function holds(lease)
  if #lease == 40 then return redis.pcall('GETRANGE', at, '0', '40') == lease end
  local behind = end_of(lease)
  return redis.pcall('GETRANGE', at, '0', '39') == string.sub(lease, 1, 40)
    and redis.pcall('GETRANGE', at, behind, behind + 7) == string.sub(lease, 41)
end
