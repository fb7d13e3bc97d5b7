-- The version of a tag, made if there is none.
--
-- KEYS[1]  where it lies: 8 bytes
-- ARGV[1]  a new version, 8 random bytes   ARGV[2]  its life in ms, counted from the last question
-- Result   the version
--
-- Safe with any content: what is no version is replaced by a new one, which no entry holds.
local version = redis.pcall('GET', KEYS[1])
if type(version) == 'string' and #version == 8 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return version
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
