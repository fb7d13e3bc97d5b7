-- Drops a key for a write that commits later than it was cached, unless what is there is the value that was put there with
-- it, or that of a write accepted after it. Its cover ends.
--
-- ARGV[3]  SHA-1 of the value that may stay   ARGV[4]  the accept sequence   ARGV[5]  the generation: see stays.lua
-- ARGV[6]  the token of its cover, or empty
-- Result   1 if the value stayed, 0 if the key is dropped
local fence = read_fence()
if not fence and stays(ARGV[3], ARGV[4], ARGV[5]) then return 1 end
local others = {}
for _, writer in ipairs(fence and fence.writers or {}) do
  if writer[1] ~= ARGV[6] then table.insert(others, writer) end
end
if #others > 0 then
  write_fence({dirty = true, writers = others, aside = ''})
else
  redis.call('DEL', at)
end
tell()
return 0
