-- What every script about one key begins with. Each run defines anew what is defined, so here is only what nearly all need.
--
-- KEYS[1]  where the key's record lies: an entry or a lease (see header.rs), or a fence
-- ARGV[1]  the channel of the bus
-- ARGV[2]  the message that tells of a change of this key (see bus.rs)
--
-- Numbers that are known beforehand are written as strings: Redis would spend as long on their digits as on a command.
--
-- Safe with any content: what is none of these is as if nothing were there, and is overwritten.
local at, channel, message = KEYS[1], ARGV[1], ARGV[2]
-- 0xB7, 1, 4: the kind of a fence.
local FENCE = '\183\1\4'

local function set(entry, px)
  if px == '0' then
    redis.call('SET', at, entry)
  else
    redis.call('SET', at, entry, 'PX', px)
  end
end

local function tell() redis.call('PUBLISH', channel, message) end
