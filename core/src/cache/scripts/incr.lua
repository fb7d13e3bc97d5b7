-- Adds to a counter: a value that is a decimal number of 64 bits. What is there keeps its end; without a value it begins at
-- 0. While writers are under way nothing happens.
--
-- ARGV[3]  what to add, decimal           ARGV[4]  the generation, 8 bytes
-- ARGV[5]  life of a new counter in ms, 0 for ever   ARGV[6]  its end as in a header, 8 bytes
-- ARGV[7]  the head of what the caller saw and knows to be none, or empty
-- Result   the number; "closed" under a writer or over a later release's entry, "tagged" over a tagged value, "text" over
--          one that is no number, "over" if the sum has more than 64 bits: then nothing has changed
--
-- Redis counts itself, on the key, as a Lua number holds 53 bits.
if read_fence() then return 'closed' end
local old = redis.pcall('GET', at)
if type(old) ~= 'string' then old = '' end
if is_later(old) then return 'closed' end
local number, ends, px = '0', ARGV[6], ARGV[5]
local known = is_value(old) and ARGV[7] ~= '' and string.sub(old, 1, #ARGV[7]) == ARGV[7]
local counts = is_value(old) and not known and string.sub(old, 9, 16) == ARGV[4]
if counts then
  local high, low = struct.unpack('>I4I4', string.sub(old, 25, 32))
  local at_ms = high * 4294967296 + low
  counts = at_ms == 0 or at_ms > now
end
if counts then
  if string.sub(old, 3, 3) ~= string.char(1) then return 'tagged' end
  number, ends = string.sub(old, 41, end_of(old)), string.sub(old, 25, 32)
  px = math.max(redis.call('PTTL', at), 0)
  px = string.format('%.0f', px)
  if #number > 20 or not string.find(number, '^-?%d+$') then return 'text' end
end
redis.call('SET', at, number)
local done = redis.pcall('INCRBY', at, ARGV[3])
if type(done) == 'table' and done.err then
  set(old, px)
  return string.find(done.err, 'overflow') and 'over' or 'text'
end
local sum = redis.call('GET', at)
local head = string.char(0xB7, 1, 1, 0) .. struct.pack('>I4', #sum) .. ARGV[4] .. string.rep(string.char(0), 8) .. ends
set(head .. checksum(head) .. sum, px)
tell()
return sum
