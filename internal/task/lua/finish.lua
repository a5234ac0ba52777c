-- Publishes a task's terminal event unless that has been done: both or neither, once.
-- KEYS: the task's end, the group's channel. ARGV: "complete" or "failed", the event, memory of
-- the end in ms. Returns how the task ended, which may not be what was asked for.
local ended = redis.call('GET', KEYS[1])
if ended then return ended end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
local sent = redis.pcall('PUBLISH', KEYS[2], ARGV[2])
if type(sent) == 'table' and sent.err then
  redis.call('DEL', KEYS[1])
  return redis.error_reply(sent.err)
end
return ARGV[1]
