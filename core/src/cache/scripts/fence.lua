-- A writer begins: from here until its end nobody reads what is there and no read fills it. The entry is put aside for the
-- case that the transaction leaves nothing; a lease ends.
--
-- ARGV[3]  the writer's token, 16 characters   ARGV[4]  ms after which it counts as gone
-- Result   how many writers there are now
local fence = read_fence()
if not fence then
  local aside = redis.pcall('GET', at)
  local absent = type(aside) == 'string' and string.sub(aside, 1, 3) == string.char(0xB7, 1, 2)
  if not absent and not is_value(aside) then aside = '' end
  fence = {dirty = false, writers = {}, aside = aside}
end
table.insert(fence.writers, {ARGV[3], now + tonumber(ARGV[4])})
write_fence(fence)
tell()
return #fence.writers
