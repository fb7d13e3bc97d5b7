-- Makes the marker and chunks of a new generation, empty.
--
-- ARGV[3]  life in milliseconds, until the builder says that it is complete   ARGV[4] and on: the header of each chunk
-- Result   1; 0 if the server does not say whose life it lives
--
-- Safe: nobody else has these names, as each try to build has a generation and a seed of its own.
local life = life_of_server()
if not life then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. life, 'PX', ARGV[3])
for i = 2, #KEYS do
  redis.call('DEL', KEYS[i])
  redis.call('SETRANGE', KEYS[i], ARGV[2] - 1, '\0')
  redis.call('SETRANGE', KEYS[i], 0, ARGV[i + 2])
  redis.call('PEXPIRE', KEYS[i], ARGV[3])
end
return 1
