-- Takes a lock that nobody holds.
--
-- KEYS[1]  the lock: its holder, "HOLDER TOKEN"   KEYS[2]  the last token that was given, kept for as long as the clock
--          of the server could be set back
-- ARGV[1]  the holder, 16 characters              ARGV[2]  its life in ms   ARGV[3]  how long the last token is kept, in ms
-- Result   the fencing token; or, if somebody holds the lock, minus the ms that it has left, at least 1
--
-- Tokens grow: each is above the last one, and at least the server's time in microseconds, so that they grow also after the
-- last one was lost, unless the clock goes back. A Lua number holds them exactly until the year 2255.
-- Safe with any content: what is no token counts as none, and a string that is no lock is held until it ends.
local held = redis.pcall('GET', KEYS[1])
if held then
  local token = type(held) == 'string' and string.sub(held, 1, 17) == ARGV[1] .. ' ' and tonumber(string.sub(held, 18))
  -- The same question, sent again.
  if token then return token end
  local left = redis.call('PTTL', KEYS[1])
  return left > 0 and -left or -1
end
local time = redis.call('TIME')
local last = redis.pcall('GET', KEYS[2])
last = type(last) == 'string' and tonumber(last) or 0
local token = math.max(time[1] * 1000000 + time[2], last + 1)
redis.call('SET', KEYS[1], ARGV[1] .. string.format(' %.0f', token), 'PX', ARGV[2])
redis.call('SET', KEYS[2], string.format('%.0f', token), 'PX', ARGV[3])
return token
