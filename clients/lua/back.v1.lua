-- Puts an entry that a worker holds and has not begun back to the head of its organization's line, since
-- the organization has its share of the worker already.
--
-- KEYS[1]  stream of the kind:                  PREFIX:tasks:KIND
-- KEYS[2]  turns of organizations:              PREFIX:ring:{PREFIX:tasks:KIND}
-- KEYS[3]  what is known of their lines:        PREFIX:lines:{PREFIX:tasks:KIND}
-- ARGV[1]  consumer group
-- ARGV[2]  this consumer
-- ARGV[3]  the entry's id
-- ARGV[4]  its organization
-- ARGV[5]  how often it was delivered before this time
--
-- Returns 1, or 0 if the entry is not this consumer's or not there any more, or has too many fields.
-- The line's name is made of the ring's. All names are in one slot of a Redis Cluster.

local stream, ring, lines = KEYS[1], KEYS[2], KEYS[3]
local group, consumer, id, org, before = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

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

local held = redis.call('XPENDING', stream, group, id, id, 1)[1]
if not held or held[2] ~= consumer then return 0 end
local found = redis.call('XRANGE', stream, id, id)[1]
if not found or #found[2] > 998 then return 0 end
local entry = {}
for i = 1, #found[2], 2 do
  if found[2][i] ~= 'delivered_before' then
    entry[#entry + 1], entry[#entry + 2] = found[2][i], found[2][i + 1]
  end
end
if before ~= '0' then
  entry[#entry + 1], entry[#entry + 2] = 'delivered_before', before
end
enqueue(org, cjson.encode(entry), 'LPUSH')
redis.call('XACK', stream, group, id)
redis.call('XDEL', stream, id)
return 1
