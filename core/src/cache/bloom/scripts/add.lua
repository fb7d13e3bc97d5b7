-- Adds keys.
--
-- ARGV[3]  unused   then for each chunk its header, and the bits of its keys as big-endian u32, counted from the start
-- Result   1 if all are set; 0 if the generation is not there as it should be, and then none is
--
-- Safe: bits are only ever set, and only in a chunk that is whole, so that no chunk comes back half empty.
if not is_marked(true) then return 0 end
for i = 2, #KEYS do
  if not is_whole(KEYS[i], ARGV[2 * i]) then return 0 end
end
for i = 2, #KEYS do
  local bits = ARGV[2 * i + 1]
  for at = 1, #bits, 4 do
    redis.call('SETBIT', KEYS[i], (struct.unpack('>I4', bits, at)), 1)
  end
end
return 1
