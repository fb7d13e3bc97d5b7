-- Before each script. KEYS[1] is where the marker of a generation lies, KEYS[2] and on where chunks of it do; all have the
-- hash tag of the family. ARGV[1] is the marker, ARGV[2] the length of a chunk.
--
-- A marker is followed by the name of the server's life (run_id and master_replid): a server that was started again, a
-- replica that was promoted, a node that took over a slot may lack the last adds, and what it has is not believed.
local function life_of_server()
  local server, replication = redis.pcall('INFO', 'server'), redis.pcall('INFO', 'replication')
  if type(server) ~= 'string' or type(replication) ~= 'string' then return nil end
  local run, lineage = string.match(server, 'run_id:(%w+)'), string.match(replication, 'master_replid:(%w+)')
  if not run or not lineage then return nil end
  return run .. lineage
end
-- One that is about to be retired (retire.lua) is marked for writers, who may not know yet, and for nobody else.
local function is_marked(for_writers)
  local life = life_of_server()
  if not life then return false end
  local marker = redis.pcall('GET', KEYS[1])
  return marker == ARGV[1] .. life or (for_writers and marker == ARGV[1] .. life .. '!')
end
local function is_whole(chunk, header)
  return redis.pcall('GETRANGE', chunk, 0, #header - 1) == header and redis.pcall('STRLEN', chunk) == tonumber(ARGV[2])
end
