-- Ends a node in order. The groups that it still has are left to the others, which find it dead after
-- a while: its connections may just be moving to them.
--
-- ARGV[1]  the node
-- ARGV[2]  the silence after which a node counts as dead
-- ARGV[3]  how long its groups stay occupied

local node = ARGV[1]
redis.call('HDEL', base .. 'since', node)
redis.call('HDEL', base .. 'written', node)
if redis.call('EXISTS', base .. 'groups:' .. node) == 1 then
  redis.call('ZADD', base .. 'beats', whole(now - tonumber(ARGV[2]) + tonumber(ARGV[3])), node)
else
  redis.call('ZREM', base .. 'beats', node)
end
return 1
