-- Remembers what a user asked for under a request id, unless something is remembered already.
-- KEYS: the request. ARGV: fingerprint of the content, id of the work, memory in ms.
-- Returns what is remembered: fingerprint, id, and "done" once the work was handed over; and 1 if that is new.
local before = redis.call('GET', KEYS[1])
if before then return {before, 0} end
local now = ARGV[1] .. ' ' .. ARGV[2]
redis.call('SET', KEYS[1], now, 'PX', ARGV[3])
return {now, 1}
