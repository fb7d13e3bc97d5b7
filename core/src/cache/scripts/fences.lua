-- The fence of a key's writers, behind time.lua.
--
-- It is laid out as: the three bytes of its kind, "1" if it is dirty or else "0", the length of its list of writers in 6
-- digits, the list (for each: its token, 16 characters, and when it ends, 13 digits of Redis' time in ms), then what was put
-- aside: when it would have been gone, as 13 digits, 0 for never, and the entry. Dirty says that something else happened to
-- the key meanwhile. A writer that ended without a word may have committed: that makes it dirty too.

-- The fence with the writers that have not ended, or nil.
local function read_fence()
  local head = redis.pcall('GETRANGE', at, '0', '9')
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
