
-- Puts up a fence: nobody reads what is there, and no read fills it; a lease or a mark ends. The entry is put aside for the case
-- that the transaction leaves nothing. Gives how many writers there are.
local function raise(token, life)
  local fence = read_fence()
  if not fence then
    -- What is longer would hold everybody up at each of the moves to come: it is gone, and has to be loaded again.
    local length = redis.pcall('STRLEN', at)
    local aside = type(length) == 'number' and length <= 262144 and redis.call('GET', at) or ''
    if #aside >= 40 and (is_value(aside) or string.sub(aside, 1, 3) == string.char(0xB7, 1, 2)) then
      local left = redis.call('PTTL', at)
      -- Without the mark of a reader who loads it anew: it has lost its right.
      aside = string.format('%013.0f', left > 0 and now + left or 0) .. string.sub(aside, 1, end_of(aside))
    else
      aside = ''
    end
    fence = {dirty = false, writers = {}, aside = aside}
  end
  table.insert(fence.writers, {token, now + tonumber(life)})
  write_fence(fence)
  tell()
  return #fence.writers
end

