end

local width, results = (#given - 1) / #all, {}
for i = 1, #all do
  at, message = all[i], given[2 + (i - 1) * width]
  for n = 2, width do ARGV[n + 1] = given[1 + (i - 1) * width + n] end
  local ended, result = pcall(one)
  if not ended then
    local text = tostring(type(result) == 'table' and result.err or result)
    local forbidden = string.find(text, "executing the script can't", 1, true) or string.find(text, 'ACL failure', 1, true)
    result = forbidden and 'NOPERM' or string.match(text, '%u%u+') or 'ERR'
  end
  results[i] = result
end
if #told > 0 then redis.call('PUBLISH', channel, table.concat(told)) end
return results
