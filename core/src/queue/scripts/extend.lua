-- Extends leases.
--
-- ARGV[1]  length of a lease in ms, then two for each: operation, attempt
-- Result   the operations that are no longer this worker's
go_on_although_full()
local lost = {}
for i = 2, #ARGV, 2 do
  local op, attempt = ARGV[i], tonumber(ARGV[i + 1])
  local attempts = run_of(op)
  if attempts == attempt and redis.call('ZSCORE', leased, op) then
    redis.call('ZADD', leased, now + tonumber(ARGV[1]), op)
  else
    table.insert(lost, op)
  end
end
return lost
