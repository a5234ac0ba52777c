-- Records a task's terminal event, publishes it with its position and remembers that, unless that has
-- been done: all or nothing, once.
--
-- KEYS[1]  the task's end:              PREFIX:{ORG}:task:KIND:ID
-- KEYS[2]  history of the task's group: PREFIX:{ORG}:history:NAME
-- ARGV[1]  channel of the group:        PREFIX:{ORG}:group:NAME
-- ARGV[2]  the event, one JSON object
-- ARGV[3]  how many events the history keeps, about
-- ARGV[4]  how long it keeps them, in milliseconds
-- ARGV[5]  "complete" or "failed"
-- ARGV[6]  how long the end is remembered, in milliseconds
--
-- Returns how the task ended, which may not be what was asked for.

local ended, history = KEYS[1], KEYS[2]
local channel, event, length, age, how, memory = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]

-- Adds the event to the history, in the words of internal/pubsub/record.lua.
local function append()
  local position = redis.call('XADD', history, 'MAXLEN', '~', length, '*', 'event', event)
  local now = tonumber(string.match(position, '^%d+')) -- positions go by the clock of Redis
  redis.call('XTRIM', history, 'MINID', string.format('%.0f', math.max(now - tonumber(age), 0)))
  redis.call('PEXPIRE', history, age)
  return position
end

local before = redis.call('GET', ended)
if before then
  return before
end
redis.call('SET', ended, how, 'PX', memory)
local position
local done, failure = pcall(function()
  position = append()
  redis.call('PUBLISH', channel, position .. ' ' .. event)
end)
if not done then -- as when this user may not publish: nothing has happened then
  redis.call('DEL', ended)
  if position then
    redis.call('XDEL', history, position)
  end
  return type(failure) == 'table' and failure or redis.error_reply(tostring(failure))
end
return how
