-- Sets what a source gave where the reader saw an entry that is none for it: that of a dropped key, or of another
-- generation. Nothing else is replaced: whatever came there since may be newer than what the source was asked for.
--
-- KEYS[1]  where the entry lies
-- ARGV[1]  the new entry
-- ARGV[2]  its life in milliseconds; 0 is for ever
-- ARGV[3]  the header that the reader saw
-- Result   1 if it was set, 0 if something else is there
--
-- Safe with any content: what is no string has no such header.
local old = redis.pcall('GETRANGE', KEYS[1], 0, 39)
if old ~= '' and old ~= ARGV[3] then
  return 0
end
if ARGV[2] == '0' then
  redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1
