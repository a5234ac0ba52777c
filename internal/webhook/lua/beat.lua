-- Keeps a node alive, and finds one that died.
--
-- ARGV[1]  the node
-- ARGV[2]  a random text
-- ARGV[3]  the longest pause between two beats of a node that could reach this server all the time
-- ARGV[4]  the silence after which a node counts as dead
-- ARGV[5]  how many groups of a dead node to return
--
-- Returns the random text of the first node that beat since this server last lost its data, how many
-- groups this node has, and, if a node is dead, its name and some of its groups.
--
-- After an outage of this server all nodes have been silent. So a node looks for dead ones only when
-- it has itself reached the server for as long as a node may be silent.

local node, random, pause, dead, most = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local beats, since = base .. 'beats', base .. 'since'

redis.call('SET', base .. 'epoch', random, 'NX')
local last, began = redis.call('ZSCORE', beats, node), redis.call('HGET', since, node)
if not last or not began or now - tonumber(last) > pause then
  began = whole(now)
  redis.call('HSET', since, node, began)
end
redis.call('ZADD', beats, whole(now), node)

local answer = {redis.call('GET', base .. 'epoch'), tostring(redis.call('SCARD', base .. 'groups:' .. node))}
if now - tonumber(began) < dead then return answer end
for _, who in ipairs(redis.call('ZRANGEBYSCORE', beats, '-inf', whole(now - dead), 'LIMIT', 0, 16)) do
  local groups = redis.call('SRANDMEMBER', base .. 'groups:' .. who, most)
  if #groups > 0 then
    answer[#answer + 1] = who
    for _, member in ipairs(groups) do answer[#answer + 1] = member end
    return answer
  end
  redis.call('ZREM', beats, who)
  redis.call('HDEL', since, who)
  redis.call('HDEL', base .. 'written', who)
end
return answer
