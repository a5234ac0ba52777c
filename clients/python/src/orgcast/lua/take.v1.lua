-- Takes over one entry that nobody has shown interest in for a while.
-- KEYS: the stream. ARGV: consumer group, this consumer, the while in ms. Returns the entry's id,
-- how often it has been delivered with this time, and its fields and values; nothing if there is
-- none. An entry that is pending but no longer in the stream comes without fields.
local idle = redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', 1)[1]
if not idle then return false end
local entry = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, idle[1])[1]
if not entry then return {idle[1], 0, {}} end
return {idle[1], idle[4] + 1, entry[2]}
