-- Adds a task to its stream unless one was added under the same idempotency key.
-- KEYS: the stream, the key that remembers. ARGV: the task's id, memory in ms, most entries in the
-- stream, then the entry's fields and values. Returns the id of the task that was added, and 1 if
-- that was now; no id if the stream is full.
local earlier = redis.call('GET', KEYS[2])
if earlier then return {earlier, 0} end
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[3]) then return {'', 0} end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
redis.call('XADD', KEYS[1], '*', unpack(ARGV, 4))
return {ARGV[1], 1}
