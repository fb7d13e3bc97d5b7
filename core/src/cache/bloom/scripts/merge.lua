-- Sets the bits of one chunk that a scan has found; those that writers have set stay.
--
-- KEYS[2]  the chunk   KEYS[3]  a name for the time of the script
-- ARGV[3]  life in milliseconds   ARGV[4]  the chunk's header   ARGV[5]  header and bits that were found
-- Result   1; 0 if the generation is not there as it should be
--
-- Safe: BITOP leaves both headers as they are, since they are the same; it takes the chunk's life away, which is given again.
if not is_marked() or not is_whole(KEYS[2], ARGV[4]) or #ARGV[5] ~= tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[3], ARGV[5])
redis.call('BITOP', 'OR', KEYS[2], KEYS[2], KEYS[3])
redis.call('DEL', KEYS[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
