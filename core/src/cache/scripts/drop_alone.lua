-- Nearly always nobody else is at the key: drop.lua without what that needs.
--
-- Result as of drop.lua
if redis.pcall('GETRANGE', at, '0', '2') ~= FENCE then
  local was = redis.call('DEL', at)
  tell()
  return was
end

