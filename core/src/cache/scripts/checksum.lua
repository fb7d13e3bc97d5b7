-- FNV-1a, 64 bits, as header.rs has it, for a script that writes a header itself. A Lua number holds 53 bits, so the hash is
-- kept in two halves: times 2^40 + 435 is (low << 8) in the upper half, plus 435 times each of them.
local function checksum(text)
  local high, low = 0xcbf29ce4, 0x84222325
  for i = 1, #text do
    low = bit.bxor(low, string.byte(text, i)) % 4294967296
    local product = low * 435
    high = (high * 435 + math.floor(product / 4294967296) + low % 16777216 * 256) % 4294967296
    low = product % 4294967296
  end
  return struct.pack('>I4I4', high, low)
end
