-- What every script about one key begins with.
--
-- KEYS[1]  where the key's record lies: an entry or a lease (see header.rs), or a fence
-- ARGV[1]  the channel of the bus
-- ARGV[2]  the message that tells of a change of this key (see bus.rs)
--
-- A fence is laid out as: the three bytes of its kind, "1" if it is dirty or else "0", the length of its list of writers
-- in 6 digits, the list (for each: its token, 16 characters, and when it ends, 13 digits of Redis' time in ms), then what
-- was put aside: when it would have been gone, as 13 digits, 0 for never, and the entry. Dirty says that something else happened to the key meanwhile. A writer that
-- ended without a word may have committed: that makes it dirty too.
--
-- Safe with any content: what is none of these is as if nothing were there, and is overwritten.
local at, channel, message = KEYS[1], ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local FENCE = string.char(0xB7, 1, 4)

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

-- The fence with the writers that have not ended, or nil.
local function read_fence()
  local head = redis.pcall('GETRANGE', at, 0, 9)
  if type(head) ~= 'string' or string.sub(head, 1, 3) ~= FENCE then return nil end
  local length = tonumber(string.sub(head, 5, 10))
  if not length then return nil end
  local text = redis.call('GET', at)
  local fence = {dirty = string.sub(text, 4, 4) == '1', writers = {}, aside = string.sub(text, 11 + length)}
  for i = 11, 10 + length, 29 do
    local ends = tonumber(string.sub(text, i + 16, i + 28))
    if not ends then return nil end
    if ends > now then
      table.insert(fence.writers, {string.sub(text, i, i + 15), ends})
    else
      fence.dirty = true
    end
  end
  if #fence.writers == 0 then return nil end
  return fence
end

local function write_fence(fence)
  local list, last = {}, 0
  for _, writer in ipairs(fence.writers) do
    table.insert(list, writer[1] .. string.format('%013.0f', writer[2]))
    last = math.max(last, writer[2])
  end
  list = table.concat(list)
  local aside = fence.dirty and '' or fence.aside
  local head = FENCE .. (fence.dirty and '1' or '0') .. string.format('%06d', #list)
  redis.call('SET', at, head .. list .. aside, 'PX', math.max(last - now, 1))
end

-- Whether nobody but covers (cover.lua) keeps the key.
local function is_cover(fence)
  for _, writer in ipairs(fence.writers) do
    if string.sub(writer[1], 1, 1) ~= '+' then return false end
  end
  return true
end

-- Something happens to the key beside its writers: none of them may put a value there, or the old one back. A value may
-- take the place of a cover: what that stands for was accepted before.
local function soil(with_value)
  local fence = read_fence()
  if not fence or with_value and is_cover(fence) then return false end
  fence.dirty = true
  write_fence(fence)
  return true
end

local function set(entry, px)
  if px == '0' then
    redis.call('SET', at, entry)
  else
    redis.call('SET', at, entry, 'PX', px)
  end
end

-- Where an entry's value ends, by its head.
local function end_of(head)
  return 40 + struct.unpack('>I4', string.sub(head, 5, 8))
end

-- Whether a reader's lease still lives: it is the record, or a mark behind the entry that the reader saw. A mark that nobody
-- took over counts after its time too, as nothing has happened to the entry.
local function holds(lease)
  if #lease == 40 then return redis.pcall('GETRANGE', at, 0, 40) == lease end
  local behind = end_of(lease)
  return redis.pcall('GETRANGE', at, 0, 39) == string.sub(lease, 1, 40)
    and redis.pcall('GETRANGE', at, behind, behind + 7) == string.sub(lease, 41)
end

local function tell() redis.call('PUBLISH', channel, message) end
