-- Gives a worker the next entry of a kind: one that nobody has read from the stream yet, else the first
-- in the line of the organization whose turn it is. That one goes to the stream and is read from there,
-- so that it is held, taken over and acknowledged like any other.
--
-- Turns are fair by weight: each entry moves the next turn of its organization back by a step, which
-- is smaller the larger its weight. Who comes new, or was passed over, has its turn now, and nothing
-- saved up.
--
-- KEYS[1]  stream of the kind:                  PREFIX:tasks:KIND
-- KEYS[2]  turns of organizations:              PREFIX:ring:{PREFIX:tasks:KIND}
-- KEYS[3]  what is known of their lines:        PREFIX:lines:{PREFIX:tasks:KIND}
-- KEYS[4]  workers that wait for an entry:      PREFIX:idle:{PREFIX:tasks:KIND}
-- ARGV[1]  consumer group
-- ARGV[2]  this consumer
-- ARGV[3]  how long it is going to wait for an entry of the stream if it gets none here, in
--          milliseconds; 0 if it is not
-- ARGV[4]  how long it is waiting there anyway, by another connection; 0 if it is not
-- ARGV[5]… organizations that are passed over, if any
--
-- Returns the id of the entry, and its fields and values; nothing if there is none; an empty id if the
-- worker should ask again at once. The lines' names are made of the ring's. All names are in one slot
-- of a Redis Cluster.

local stream, ring, lines, idle = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, consumer, ifnone, anyway = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

-- begin of parts/line.lua
-- The name of an organization's line. Its slot in a Redis Cluster is that of the ring.
local function lineOf(org)
  return (string.gsub(ring, ':ring:', ':line:', 1)) .. ':' .. org
end
-- end of parts/line.lua

-- begin of parts/leave.lua
-- Notes that an entry has left the line of an organization.
local function left(org, text)
  redis.call('HINCRBY', lines, org, -#text)
  redis.call('HINCRBY', lines, ':entries', -1)
  redis.call('HINCRBY', lines, ':bytes', -#text)
end
-- end of parts/leave.lua

local function read()
  local streams = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', stream, '>')
  local entry = streams and streams[1] and streams[1][2][1]
  return entry and {entry[1], entry[2]}
end

-- The fields and values of an entry in a line. What is none keeps its text, and is buried.
local function decode(text)
  local ok, entry = pcall(cjson.decode, text)
  if not ok or type(entry) ~= 'table' or #entry == 0 or #entry > 1000 or #entry % 2 == 1 then
    return {'text', text}
  end
  for _, value in ipairs(entry) do
    if type(value) ~= 'string' then return {'text', text} end
  end
  return entry
end

-- Moves an entry to the stream, and reports whether there was one, or whether to look again. Lines
-- that have become empty are dropped on the way: each once, and not too many at a time.
local step, room, rounds = 1000000, 64, 16
local function feed(passed, count)
  for _ = 1, rounds do
    local orgs, dropped = redis.call('ZRANGE', ring, 0, count + room - 1), false
    if #orgs == 0 then
      redis.call('DEL', lines)
      return false, false
    end
    for _, org in ipairs(orgs) do
      local text = not passed[org] and redis.call('LINDEX', lineOf(org), 0)
      if text then
        redis.call('XADD', stream, '*', unpack(decode(text)))
        redis.call('LPOP', lineOf(org))
        left(org, text)
        local known = redis.call('HMGET', lines, ':turn', org .. ':weight')
        local turn = math.max(tonumber(redis.call('ZSCORE', ring, org)), tonumber(known[1] or 0))
        local weight = math.min(math.max(tonumber(known[2]) or 1, 1), 100)
        redis.call('HSET', lines, ':turn', string.format('%.0f', turn))
        redis.call('ZADD', ring, string.format('%.0f', turn + math.floor(step / weight)), org)
        return true, false
      elseif not passed[org] then
        redis.call('ZREM', ring, org)
        redis.call('HDEL', lines, org, org .. ':weight')
        dropped = true
      end
    end
    if not dropped then return false, false end
  end
  return false, true
end

-- Those who dispatch have to know who waits.
local function waits(wait)
  if wait > 0 then
    local clock = redis.call('TIME')
    redis.call('ZADD', idle, string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000) + wait), consumer)
  else
    redis.call('ZREM', idle, consumer)
  end
end

local entry, more = read(), false
if not entry then
  local passed, fed = {}, false
  for i = 5, #ARGV do passed[ARGV[i]] = true end
  fed, more = feed(passed, #ARGV - 4)
  entry = fed and read() or more and {'', {}}
end
waits(entry and anyway or math.max(ifnone, anyway))
return entry
