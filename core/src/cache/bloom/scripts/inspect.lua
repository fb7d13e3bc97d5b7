-- Looks whether chunks are there as they should be, counts their bits, and says how long they live.
--
-- ARGV[3]  "" leaves the lives alone, "0" is for ever, else milliseconds   ARGV[4] and on: the header of each chunk
-- Result   the bits set in these chunks; -1 if one of them or the marker is not as it should be
--
-- Safe: nothing is changed unless all of it is as it should be.
-- A look without a life asks whether it answers; one that is about to be retired does not.
if not is_marked(ARGV[3] ~= '') then return -1 end
local set = 0
for i = 2, #KEYS do
  local header = ARGV[i + 2]
  if not is_whole(KEYS[i], header) then return -1 end
  set = set + redis.call('BITCOUNT', KEYS[i], #header, -1)
end
if ARGV[3] ~= '' then
  for i = 1, #KEYS do
    if ARGV[3] == '0' then
      redis.call('PERSIST', KEYS[i])
    else
      redis.call('PEXPIRE', KEYS[i], ARGV[3])
    end
  end
end
return set
