-- What every script of the queue begins with. All keys of a queue share one hash tag, so that a script may touch them all.
--
-- KEYS[1]  due       ZSET  operation → when it may run, in ms of Redis' time: the first of each lane, and those without one
-- KEYS[2]  suspects  ZSET  the same of those whose worker did not come back once they had begun; they run alone
-- KEYS[3]  leased    ZSET  operation → when its lease ends
-- KEYS[4]  bodies    HASH  operation → when it was due first (13 digits), + or - for coalescing, its accept sequence (16),
--                          the length of its lane (5), its lane, its payload
-- KEYS[5]  runs      HASH  operation → "attempt crashes errors begun", once it was leased: the number of its last lease,
--                          and of the last one under which a worker began it, 0 if none did
-- KEYS[6]  tails     HASH  lane → its last operation
-- KEYS[7]  nexts     HASH  operation → the one behind it in its lane
-- KEYS[8]  befores   HASH  the same the other way round
-- KEYS[9]  state     HASH  epoch, sequence, leases (how many were given), paused, and what was counted
--
-- A lane is the list of the operations of one cache key. Its first one is in due, suspects or leased, the others only in
-- bodies.
local due, suspects, leased, bodies, runs = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local tails, nexts, befores, state = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function lane_of(body)
  local length = tonumber(string.sub(body, 31, 35))
  return string.sub(body, 36, 35 + length)
end

-- A Redis that is full refuses a script only until its first write. What brings waiting operations to their end begins with
-- one that takes no memory, or a full queue could not empty itself.
local function go_on_although_full() redis.call('HDEL', state, '') end

-- The name of a queue begins with the 32 digits of its database's identity.
local function is_of_other(epoch, own)
  return string.sub(epoch, 1, 32) ~= string.sub(own, 1, 32)
end

local function run_in(text)
  if not text then return 0, 0, 0, 0 end
  local attempt, crashes, errors, begun = string.match(text, '^(%d+) (%d+) (%d+) (%d+)$')
  return tonumber(attempt or 0), tonumber(crashes or 0), tonumber(errors or 0), tonumber(begun or 0)
end

local function run_of(op)
  return run_in(redis.call('HGET', runs, op))
end

local function run_text(attempt, crashes, errors, begun)
  return string.format('%.0f %d %d %.0f', attempt, crashes, errors, begun)
end

local function set_run(op, attempt, crashes, errors, begun)
  redis.call('HSET', runs, op, run_text(attempt, crashes, errors, begun))
end

-- The first operation of its lane waits again. One that may have killed its worker goes on running alone.
local function wait_again(op, at, crashes)
  redis.call('ZADD', crashes > 0 and suspects or due, at, op)
end

-- The first operation of its lane is at its end: whoever is next may run. One whose body somebody has removed is passed
-- over.
local function let_next(op, lane)
  redis.call('HDEL', bodies, op)
  redis.call('HDEL', runs, op)
  if lane == '' then return end
  local next = redis.call('HGET', nexts, op)
  if next then redis.call('HDEL', nexts, op) end
  while next do
    redis.call('HDEL', befores, next)
    local body = redis.call('HGET', bodies, next)
    if body then
      if tonumber(string.sub(body, 1, 13)) < now then
        -- It could not run before: its age counts from here.
        redis.call('HSET', bodies, next, string.format('%013.0f', now) .. string.sub(body, 14))
      end
      redis.call('ZADD', due, math.max(tonumber(string.sub(body, 1, 13)), now), next)
      return
    end
    local behind = redis.call('HGET', nexts, next)
    redis.call('HDEL', nexts, next)
    next = behind
  end
  redis.call('HDEL', tails, lane)
end
