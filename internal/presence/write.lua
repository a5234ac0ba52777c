-- Writes what a node says of its users in a group, and tells the others.
--
-- KEYS[1]  who is in the group, a hash:                  PREFIX:{ORG}:presence:GROUP
-- ARGV[1]  the group's channel
-- ARGV[2]  the message for it
-- ARGV[3]  how long the hash is kept, in milliseconds
-- ARGV[4]  field with the number of the node's last write
-- ARGV[5]  that number, or '' to keep none
-- ARGV[6]  how many fields to remove, which follow; after them, fields and their values

local removed = tonumber(ARGV[6])
for i = 7, 6 + removed do
  redis.call('HDEL', KEYS[1], ARGV[i])
end
for i = 7 + removed, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[4], ARGV[5])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return redis.call('PUBLISH', ARGV[1], ARGV[2])
