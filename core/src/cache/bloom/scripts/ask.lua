-- Asks for keys.
--
-- ARGV[3]  bits of a key   then for each chunk its header, and the bits of its keys as big-endian u32, counted from the start
-- Result   one letter for each key, chunk by chunk: 0 no, 1 maybe, 2 the chunk is not as it should be;
--          an empty list if the marker is not
--
-- Safe: it changes nothing, and says no only if the server is the one that the marker was made on and the chunk is whole.
if not is_marked() then return {} end
local answers, step = {}, tonumber(ARGV[3]) * 4
for i = 2, #KEYS do
  local bits, whole = ARGV[2 * i + 1], is_whole(KEYS[i], ARGV[2 * i])
  for key = 1, #bits, step do
    local answer = whole and '1' or '2'
    if whole then
      for at = key, key + step - 1, 4 do
        if redis.call('GETBIT', KEYS[i], (struct.unpack('>I4', bits, at))) == 0 then
          answer = '0'
          break
        end
      end
    end
    answers[#answers + 1] = answer
  end
end
return {table.concat(answers)}
