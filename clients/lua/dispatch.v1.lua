-- Hands a task over, unless one was handed over under the same idempotency key: appends it to the line
-- of its organization. If nothing waits there and a worker waits for an entry of the stream, it goes there,
-- and the worker has it at once.
--
-- KEYS[1]  stream of the kind:                  PREFIX:tasks:KIND
-- KEYS[2]  the key that remembers:              PREFIX:once:{PREFIX:tasks:KIND}:ORG:KEY
-- KEYS[3]  turns of organizations:              PREFIX:ring:{PREFIX:tasks:KIND}
-- KEYS[4]  what is known of their lines:        PREFIX:lines:{PREFIX:tasks:KIND}
-- KEYS[5]  workers that wait for an entry:      PREFIX:idle:{PREFIX:tasks:KIND}
-- ARGV[1]  the task's id
-- ARGV[2]  how long the key is remembered, in milliseconds
-- ARGV[3]  how many tasks of the organization may wait in its line; 0 is no limit
-- ARGV[4]  how many bytes; 0 is no limit
-- ARGV[5]  weight of the organization, 1 to 100
-- ARGV[6]  consumer group of the workers
-- ARGV[7]… fields and values of the entry
--
-- Returns the id of the task that was handed over, and 1 if that was now; no id if the line is full or
-- the task was withdrawn. The line's name, PREFIX:line:{PREFIX:tasks:KIND}:ORG, is made of the ring's.
-- All names are in one slot of a Redis Cluster.

local stream, once, ring, lines, idle = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, memory, most, bytes, weight, group = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6]

-- begin of parts/line.lua
-- The name of an organization's line. Its slot in a Redis Cluster is that of the ring.
local function lineOf(org)
  return (string.gsub(ring, ':ring:', ':line:', 1)) .. ':' .. org
end
-- end of parts/line.lua

-- begin of parts/enqueue.lua
-- Puts an entry into the line of an organization, which has its turn from now on. text is the entry's
-- fields and values as a list in JSON, push is RPUSH or LPUSH.
local function enqueue(org, text, push)
  if redis.call(push, lineOf(org), text) == 1 then
    redis.call('HSET', lines, org, #text)
  else
    redis.call('HINCRBY', lines, org, #text)
  end
  redis.call('HINCRBY', lines, ':entries', 1)
  redis.call('HINCRBY', lines, ':bytes', #text)
  redis.call('ZADD', ring, 'NX', redis.call('HGET', lines, ':turn') or 0, org)
end
-- end of parts/enqueue.lua

-- Reports whether a worker waits for an entry of the stream, and none is on its way there.
local function wanted(now)
  redis.call('ZREMRANGEBYSCORE', idle, '-inf', now)
  if redis.call('ZCARD', idle) == 0 then return false end
  local unread = redis.call('XLEN', stream)
  if unread == 0 then return true end
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local known = {}
    for i = 1, #info, 2 do known[info[i]] = info[i + 1] end
    if known.name == group then
      unread = math.min(unread - known.pending, tonumber(known.lag) or unread)
    end
  end
  return unread <= 0
end

local earlier = redis.call('GET', once)
if earlier then return {earlier, 0} end

local entry, org = {unpack(ARGV, 7)}, ''
for i = 1, #entry, 2 do
  if entry[i] == 'organization_id' then org = entry[i + 1] or '' end
end
if #org > 64 or not string.find(org, '^[%w_-]+$') then
  return redis.error_reply('ERR organization_id is not 1 to 64 characters of A-Z a-z 0-9 _ -')
end
local clock = redis.call('TIME')
local now = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000))
entry[#entry + 1] = 'dispatched_at'
entry[#entry + 1] = now

local waiting = redis.call('LLEN', lineOf(org))
if waiting == 0 and wanted(now) then
  redis.call('XADD', stream, '*', unpack(entry))
else
  local text = cjson.encode(entry)
  local held = waiting > 0 and tonumber(redis.call('HGET', lines, org)) or 0
  if most > 0 and waiting >= most or bytes > 0 and held + #text > bytes then
    return {'', 0}
  end
  enqueue(org, text, 'RPUSH')
  redis.call('HSET', lines, org .. ':weight', weight)
end
redis.call('SET', once, id, 'PX', memory)
return {id, 1}
