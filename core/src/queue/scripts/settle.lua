-- Ends leases: of what is done or dead, and of what is to run again.
--
-- ARGV[1]  epoch of whoever asks, then five for each: operation, attempt, lane, "done" | "dead" | "error" | "again", ms
--          until it runs again
-- Result   how many were still this worker's, or -1 if the queue is another database's
--
-- "error" counts towards the most errors that an operation may have, "again" does not. An operation whose lease has ended
-- may still be settled as done or dead, as long as nobody else has leased it: its effect is in the database.
local epoch = redis.call('HGET', state, 'epoch')
if epoch and is_of_other(epoch, ARGV[1]) then return -1 end
local settled = 0
local counted = {}
for i = 2, #ARGV, 5 do
  local op, attempt, lane, how, delay = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3], tonumber(ARGV[i + 4])
  local last, crashes, errors, begun = run_of(op)
  local over = how == 'done' or how == 'dead'
  local held = last == attempt
    and (redis.call('ZREM', leased, op) == 1 or over and redis.call('ZREM', suspects, op) == 1)
  if held then
    settled = settled + 1
    if over then
      let_next(op, lane)
      counted[how] = (counted[how] or 0) + 1
    else
      if how == 'error' then
        errors = errors + 1
        counted.retried = (counted.retried or 0) + 1
      end
      set_run(op, last, crashes, errors, begun)
      wait_again(op, now + delay, crashes)
    end
  end
end
for name, times in pairs(counted) do redis.call('HINCRBY', state, name, times) end
return settled
