-- Nearly always nobody else is at the key: put.lua without what that needs.
--
-- Arguments and result as of put.lua
if redis.pcall('GETRANGE', at, '0', '2') ~= FENCE then
  set(ARGV[3], ARGV[4])
  tell()
  return 1
end

