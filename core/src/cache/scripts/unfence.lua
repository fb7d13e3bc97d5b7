-- A writer ends. The last one leaves its value, if it is known that nothing else happened: neither another writer that
-- committed, nor one that ended without a word, nor a change without a fence. Otherwise it leaves nothing.
--
-- ARGV[3]  the writer's token
-- ARGV[4]  "set": it committed, with a value; "drop": it committed, or may have; "keep": it certainly left nothing
-- ARGV[5]  the value's entry, and ARGV[6] its life in ms, 0 for ever; both only for "set"
-- Result   1 if its value is there now, or for "keep" what was there before, else 0
local how = ARGV[4]
local fence = read_fence()
local mine
for i, writer in ipairs(fence and fence.writers or {}) do
  if writer[1] == ARGV[3] then mine = i end
end
if mine then table.remove(fence.writers, mine) end
local others = fence and #fence.writers > 0

if how == 'keep' then
  if not mine then return 0 end
  if others then
    write_fence(fence)
    return 0
  end
  local ends = tonumber(string.sub(fence.aside, 1, 13))
  if ends and not fence.dirty and (ends == 0 or ends > now) then
    set(string.sub(fence.aside, 14), ends == 0 and '0' or string.format('%.0f', ends - now))
    return 1
  end
  redis.call('DEL', at)
  return 0
end

local stays = 0
if others then
  fence.dirty = true
  write_fence(fence)
elseif mine and how == 'set' and not fence.dirty then
  set(ARGV[5], ARGV[6])
  stays = 1
else
  redis.call('DEL', at)
end
tell()
return stays
