-- Removes an entry from the line of its organization.
--
-- KEYS[1]  turns of organizations:              PREFIX:ring:{PREFIX:tasks:KIND}
-- KEYS[2]  what is known of their lines:        PREFIX:lines:{PREFIX:tasks:KIND}
-- ARGV[1]  the organization
-- ARGV[2]  the entry as it stands in the line
--
-- Returns 1, or 0 if it is not there any more. The line's name is made of the ring's. All names are in
-- one slot of a Redis Cluster. Redis seeks the entry from the head of the line.

local ring, lines, org, text = KEYS[1], KEYS[2], ARGV[1], ARGV[2]

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

local removed = redis.call('LREM', lineOf(org), 1, text)
if removed == 1 then left(org, text) end
return removed
