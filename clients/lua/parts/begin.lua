-- A server that hung carries out what has waited in its sockets when it wakes up. Whoever sent that
-- has given up long ago, and tried again.
if latest then
  local clock = redis.call('TIME')
  if clock[1] * 1000 + math.floor(clock[2] / 1000) > latest then
    return redis.error_reply('LATE the server got to this after its latest moment')
  end
end

-- In a Redis Cluster a group is heard with SSUBSCRIBE, to which only SPUBLISH speaks. Whoever may
-- not ask gets the error before anything has happened: else events would vanish. What only looks
-- like Redis may not know the section.
local info = redis.pcall('INFO', 'cluster')
if type(info) == 'table' and not string.find(info.err, 'not supported', 1, true) then
  return info
end
local publish = type(info) == 'string' and string.find(info, 'cluster_enabled:1', 1, true) and 'SPUBLISH' or 'PUBLISH'
