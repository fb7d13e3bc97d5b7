-- Drops the entries of a tag: it gets another version, so that entries with the one before are misses.
--
-- KEYS[1]  where the version lies; ARGV[2] tells of the tag, not of a key
-- ARGV[3]  the new version, 8 random bytes   ARGV[4]  its life in ms
-- Result   1
set(ARGV[3], ARGV[4])
tell()
return 1
