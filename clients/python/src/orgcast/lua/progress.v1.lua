-- Records an event of a task, and publishes it with its position, unless the task's terminal event
-- has been published.
--
-- KEYS[1]  the task's end:               PREFIX:{ORG}:task:KIND:ID
-- KEYS[2]  history of the event's group: PREFIX:{ORG}:history:NAME
-- ARGV[1]  channel of the group:         PREFIX:{ORG}:group:NAME
-- ARGV[2]  the event, one JSON object
-- ARGV[3]  how many events the history keeps, about
-- ARGV[4]  how long it keeps them, in milliseconds
-- ARGV[5]  optional: the latest moment to do this, in milliseconds since 1970 by the clock of this
--          server, which TIME tells
--
-- Returns the event's position, or nothing if the task has ended; after the latest moment the error
-- LATE, and has done nothing.

local ended, history = KEYS[1], KEYS[2]
local channel, event, length, age, latest = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local hash -- none: a task that is tried again says again what it said

-- begin of parts/begin.lua
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
-- end of parts/begin.lua

-- begin of parts/append.lua
-- Adds the event to the history.
local function append()
  local entry = hash and {'event', event, 'key', hash} or {'event', event}
  local position = redis.call('XADD', history, 'MAXLEN', '~', length, '*', unpack(entry))
  local now = tonumber(string.match(position, '^%d+')) -- positions go by the clock of Redis
  redis.call('XTRIM', history, 'MINID', string.format('%.0f', math.max(now - tonumber(age), 0)))
  redis.call('PEXPIRE', history, age)
  return position
end

-- What goes out on the channel.
local function message(position)
  return position .. (hash and ' #' .. hash or '') .. ' ' .. event
end
-- end of parts/append.lua

if redis.call('EXISTS', ended) == 1 then
  return false
end
local position = append()
redis.call(publish, channel, message(position))
return position
