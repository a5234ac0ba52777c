-- Records an event: adds it to the history of its group and publishes it with its position.
--
-- KEYS[1]  history of the group, a stream:   PREFIX:{ORG}:history:NAME
-- KEYS[2]  only with an idempotency key:     PREFIX:{ORG}:once:NAME:KEY
-- ARGV[1]  channel of the group:             PREFIX:{ORG}:group:NAME
-- ARGV[2]  the event, one JSON object
-- ARGV[3]  how many events the history keeps, about
-- ARGV[4]  how long it keeps them, in milliseconds, and the idempotency key too
-- ARGV[5]  optional: the latest moment to do this, in milliseconds since 1970 by the clock of this
--          server, which TIME tells; empty for none
-- ARGV[6]  optional: the word reach, for an answer with the number of subscribers
-- ARGV[7]  optional: the W3C traceparent of the span that publishes the event, which goes out with it
--          and is not kept in the history
--
-- Returns the position; with the word reach a list of the position and the number of subscribers
-- that Redis passed the event on to, of which an event that is not published has none. An idempotency key that was used returns the position of that first event,
-- and nothing is recorded or published. After the latest moment it returns the error LATE, and has
-- done nothing. All names are in one slot of a Redis Cluster.

local history, once = KEYS[1], KEYS[2]
local channel, event, length, age, latest = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local reach = ARGV[6] == 'reach'
local trace = ARGV[7] or ''

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

-- An event with an idempotency key goes out with a hash of that, by which nodes know it again if it
-- comes twice.
local hash
if once then
  local key = string.match(once, '^[^}]*}:once:[^:]*:(.*)$') or once
  hash = string.sub(redis.sha1hex(key), 1, 16)
end

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

if once then
  local first = redis.call('GET', once)
  if first then
    return reach and {first} or first
  end
end
local position = append()
if once then
  redis.call('SET', once, position, 'PX', age)
end
if string.match(trace, '^%x%x%-[%x-]+$') then
  event = '~traceparent=' .. trace .. ' ' .. event
end
local subscribers = redis.call(publish, channel, message(position))
return reach and {position, subscribers} or position
