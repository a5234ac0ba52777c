-- What the scripts of this folder have in common; it stands before each of them.
--
-- KEYS[1]  organizations with events waiting, by their next turn: PREFIX:webhook:{PREFIX:webhooks}:ring
--
-- The other names are made of that one, so all are in one slot of a Redis Cluster. Times are in
-- microseconds, by the clock of this server.

local ring = KEYS[1]
local base = string.sub(ring, 1, -5)
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

local function whole(n) return string.format('%.0f', n) end

local function lineOf(org, line) return base .. 'line:' .. org .. ':' .. line end

local function dueOf(org) return base .. 'due:' .. org end

-- Lets the turn of an organization come at a time, if it would come later.
local function turn(org, at)
  local score = redis.call('ZSCORE', ring, org)
  if not score or tonumber(score) > at then
    redis.call('ZADD', ring, whole(at), org)
  end
end

-- Counts an entry that came to the lines of an organization, or left them.
local function count(org, entries, bytes)
  redis.call('HINCRBY', base .. 'bytes', ':entries', entries)
  redis.call('HINCRBY', base .. 'bytes', ':bytes', bytes)
  local left = redis.call('HINCRBY', base .. 'bytes', org .. ':entries', entries)
  redis.call('HINCRBY', base .. 'bytes', org, bytes)
  if left <= 0 then
    redis.call('HDEL', base .. 'bytes', org, org .. ':entries')
  end
end

-- Appends an entry to a line. An entry that is not the first of its line waits for those before it.
local function push(org, line, entry)
  redis.call('RPUSH', lineOf(org, line), entry)
  count(org, 1, #entry)
  if not redis.call('ZSCORE', dueOf(org), line) then
    redis.call('ZADD', dueOf(org), whole(now), line)
    turn(org, now)
  end
end
