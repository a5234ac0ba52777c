-- Sets how long an entry counts as idle and how often as delivered, for whoever holds it.
-- KEYS: the stream. ARGV: consumer group, this consumer, the entry's id, idle time in ms, number
-- of deliveries. Returns 1, or 0 if another consumer has taken the entry over.
local held = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)[1]
if not held or held[2] ~= ARGV[2] then return 0 end
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'IDLE', ARGV[4], 'RETRYCOUNT', ARGV[5], 'JUSTID')
return 1
