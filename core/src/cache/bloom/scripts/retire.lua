-- Ends the answers of a generation, before another one answers: writers that know of the other one no longer add to it, while
-- readers may not know yet.
--
-- ARGV[3]  life in milliseconds, for writers that do not know yet
-- Result   1, also if it was retired before; 0 if the generation is not there as it should be
--
-- Safe: what is no marker of this generation is left alone; nobody believes it on this server.
if not is_marked(true) then return 0 end
if is_marked() then
  redis.call('SET', KEYS[1], redis.call('GET', KEYS[1]) .. '!', 'PX', ARGV[3])
end
return 1
