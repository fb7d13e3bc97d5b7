-- Ends the answers of a generation, before another one answers: writers that know of the other one no longer add to it, while
-- readers may not know yet.
--
-- ARGV[3]  life in milliseconds, for writers that do not know yet
-- Result   1
--
-- Safe: what is no marker of this generation is left alone; nobody believes it anyway.
if is_marked() then
  redis.call('SET', KEYS[1], redis.call('GET', KEYS[1]) .. '!', 'PX', ARGV[3])
end
return 1
