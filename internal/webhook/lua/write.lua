-- Writes what a node has to tell, each batch once.
--
-- ARGV[1]  the node
-- ARGV[2]  the number of the batch; the node repeats it if it had no answer
-- ARGV[3]  bytes that may wait for an organization
-- ARGV[4]  the silence after which a node counts as dead
-- ARGV[5]… for each step: what to do, organization, line, group or "", node, entry or ""
--
-- A step is one of
--   event   append the entry
--   occupy  the group has connections on the node; append the entry if it had none on any node
--   know    the same, without the entry: receivers know it already
--   vacate  the group has no connections on the node; append the entry if it has none on any other
--   bury    the same for a node that is dead
--
-- Returns for each step 1 if its entry was appended, 0 if not, -1 if there was no room for it. For a
-- batch that was written before, it returns nothing.

local node, batch, limit, dead = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local beats, occupied = base .. 'beats', base .. 'occupied'

local function append(org, line, entry)
  if entry == '' then return 0 end
  if tonumber(redis.call('HGET', base .. 'bytes', org) or 0) + #entry > limit then return -1 end
  push(org, line, entry)
  return 1
end

local function occupy(who, member)
  return redis.call('SADD', base .. 'groups:' .. who, member) == 1 and redis.call('HINCRBY', occupied, member, 1) == 1
end

local function vacate(who, member)
  if redis.call('SREM', base .. 'groups:' .. who, member) == 0 then return false end
  if redis.call('HINCRBY', occupied, member, -1) > 0 then return false end
  redis.call('HDEL', occupied, member)
  return true
end

local function isDead(who)
  local last = redis.call('ZSCORE', beats, who)
  return not last or now - tonumber(last) >= dead
end

if redis.call('HGET', base .. 'written', node) == batch then return {} end
local results = {}
for i = 5, #ARGV, 6 do
  local step, org, line, member, who, entry = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5]
  local result = 0
  if step == 'event' then
    result = append(org, line, entry)
  elseif step == 'know' then
    occupy(who, member)
  elseif step == 'occupy' and occupy(who, member) or step == 'vacate' and vacate(who, member)
    or step == 'bury' and isDead(who) and vacate(who, member) then
    result = append(org, line, entry)
  end
  results[#results + 1] = result
end
redis.call('HSET', base .. 'written', node, batch)
return results
