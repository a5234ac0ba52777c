-- Removes fields that a node without a lease has left, unless the node has written something since.
--
-- KEYS[1]  who is in the group, a hash:                  PREFIX:{ORG}:presence:GROUP
-- ARGV[1]  field with the number of the node's last write
-- ARGV[2]  that number, as it was when the node had no lease
-- ARGV[3…] the fields to remove

if (redis.call('HGET', KEYS[1], ARGV[1]) or '0') ~= ARGV[2] then
  return 0
end
for i = 3, #ARGV do
  redis.call('HDEL', KEYS[1], ARGV[i])
end
return #ARGV - 2
