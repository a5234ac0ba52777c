-- Records an event: adds it to the history of its group and publishes it with its position.
--
-- KEYS[1]  history of the group, a stream:   PREFIX:{ORG}:history:NAME
-- KEYS[2]  only with an idempotency key:     PREFIX:{ORG}:once:NAME:KEY
-- ARGV[1]  channel of the group:             PREFIX:{ORG}:group:NAME
-- ARGV[2]  the event, one JSON object
-- ARGV[3]  how many events the history keeps, about
-- ARGV[4]  how long it keeps them, in milliseconds, and the idempotency key too
--
-- Returns the position. An idempotency key that was used returns the position of that first event,
-- and nothing is recorded or published. All names are in one slot of a Redis Cluster.

local history, once = KEYS[1], KEYS[2]
local channel, event, length, age = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

-- In a Redis Cluster a group is heard with SSUBSCRIBE, to which only SPUBLISH speaks. Whoever may
-- not ask gets the error before anything has happened: else events would vanish. What only looks
-- like Redis may not know the section. The scripts of package task say it in the same words.
local info = redis.pcall('INFO', 'cluster')
if type(info) == 'table' and not string.find(info.err, 'not supported', 1, true) then
  return info
end
local publish = type(info) == 'string' and string.find(info, 'cluster_enabled:1', 1, true) and 'SPUBLISH' or 'PUBLISH'

-- Adds the event to the history. The scripts of package task say it in the same words.
local function append()
  local position = redis.call('XADD', history, 'MAXLEN', '~', length, '*', 'event', event)
  local now = tonumber(string.match(position, '^%d+')) -- positions go by the clock of Redis
  redis.call('XTRIM', history, 'MINID', string.format('%.0f', math.max(now - tonumber(age), 0)))
  redis.call('PEXPIRE', history, age)
  return position
end

if once then
  local first = redis.call('GET', once)
  if first then
    return first
  end
end
local position = append()
if once then
  redis.call('SET', once, position, 'PX', age)
end
redis.call(publish, channel, position .. ' ' .. event)
return position
