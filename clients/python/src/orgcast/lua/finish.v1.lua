-- Records a task's terminal event, publishes it with its position and remembers that, unless that has
-- been done: all or nothing, once. Events for further groups of the organization go along with it.
--
-- KEYS[1]  the task's end:              PREFIX:{ORG}:task:KIND:ID
-- KEYS[2]  history of the task's group: PREFIX:{ORG}:history:NAME
-- KEYS[3]… histories of further groups, if any
-- ARGV[1]  channel of the group:        PREFIX:{ORG}:group:NAME
-- ARGV[2]  the event, one JSON object
-- ARGV[3]  how many events the history keeps, about
-- ARGV[4]  how long it keeps them, in milliseconds
-- ARGV[5]  "complete" or "failed"
-- ARGV[6]  how long the end is remembered, in milliseconds
-- ARGV[7]… channel and event for each further group, in the order of the keys
-- behind them, optional: the latest moment to do this, in milliseconds since 1970 by the clock of
--          this server, which TIME tells
--
-- Returns how the task ended, which may not be what was asked for; after the latest moment the error
-- LATE, and has done nothing.

local ended, length, age, how, memory = KEYS[1], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local latest = tonumber(ARGV[2 * #KEYS + 3])
local history, channel, event, hash -- of the group in hand

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

-- Takes the n-th group in hand. The first is the task's own. The end of a task is its own idempotency
-- key, by which nodes know the event again if it comes twice.
local function take(n)
  local at = n == 1 and 1 or 2 * n + 3
  history, channel, event = KEYS[n + 1], ARGV[at], ARGV[at + 1]
  hash = string.sub(redis.sha1hex(ended .. ':' .. n), 1, 16)
end

local before = redis.call('GET', ended)
if before then
  return before
end
redis.call('SET', ended, how, 'PX', memory)
local positions = {}
local done, failure = pcall(function()
  for n = 1, #KEYS - 1 do
    take(n)
    positions[n] = append()
  end
  take(1)
  local position = positions[1]
  redis.call(publish, channel, message(position))
end)
if not done then -- as when this user may not publish: nothing has happened then
  redis.call('DEL', ended)
  for n, position in ipairs(positions) do
    take(n)
    redis.call('XDEL', history, position)
  end
  return type(failure) == 'table' and failure or redis.error_reply(tostring(failure))
end
-- The end is out and cannot be taken back. What may not be published any more is in its history.
for n = 2, #positions do
  take(n)
  redis.pcall(publish, channel, message(positions[n]))
end
return how
