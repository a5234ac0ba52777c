-- Reserves connections of an organization for a node, or renews what the node has.
--
-- KEYS[1]  the organization, a hash:                     PREFIX:{ORG}:org
-- KEYS[2]  who has how many, a hash of node and share:   PREFIX:{ORG}:connections
-- ARGV[1]  name of the node
-- ARGV[2]  connections that it has
-- ARGV[3]  1 if it wants more, else 0
-- ARGV[4]  limit, unless the field max_connections of the organization is a number; 0 is none
-- ARGV[5]  how long the reservation holds, in milliseconds
-- ARGV[6]  most connections reserved ahead
--
-- Returns how many connections the node may have for now, ARGV[2] if there is no more to be had; the
-- limit; and the error with which Redis refused to write, or ''. Then nothing is reserved. A node that
-- reserves nothing again within ARGV[5] counts for nothing. All names are in one slot of a Redis Cluster.

local node, used, more, lease, ahead = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1', tonumber(ARGV[5]), tonumber(ARGV[6])
local limit = redis.call('HGET', KEYS[1], 'max_connections') or ''
limit = string.match(limit, '^%d+$') and tonumber(limit) or tonumber(ARGV[4])

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local refused = ''
local function write(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then
    refused = reply.err
  end
end

local others = 0
local shares = redis.call('HGETALL', KEYS[2])
for i = 1, #shares, 2 do
  local count, expires = string.match(shares[i + 1], '^(%d+) (%d+)$')
  if not count or tonumber(expires) <= now then
    write('HDEL', KEYS[2], shares[i])
  elseif shares[i] ~= node then
    others = others + count
  end
end

local granted = used
if more and limit == 0 then
  granted = used + ahead
elseif more and others + used < limit then
  -- The less is left the less is taken ahead, so that no node sits on what another one needs.
  local free = limit - others - used
  granted = used + math.max(1, math.min(ahead, math.floor(free / 8)))
end
if granted == 0 then
  write('HDEL', KEYS[2], node)
else
  write('HSET', KEYS[2], node, string.format('%d %.0f', granted, now + lease))
  write('PEXPIRE', KEYS[2], lease)
end
return {granted, limit, refused}
