-- The generation of a database's entries. It is another one once the server is another run: what it holds may be older than
-- what it had, or somebody else's.
--
-- KEYS[1]  where it lies: the run, a space, the number
-- ARGV[1]  the run that the reader is connected to; empty if it does not know   ARGV[2]  the number of a new one
-- Result   the number, in digits
--
-- Safe with any content: what is no generation is replaced by a new one.
local old = redis.pcall('GET', KEYS[1])
local run, number = string.match(type(old) == 'string' and old or '', '^(%x*) ([1-9]%d*)$')
if number and #number < 21 and (ARGV[1] == '' or run == ARGV[1]) then return number end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2])
return ARGV[2]
