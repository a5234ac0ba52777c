-- Withdraws a task that was refused: from now on it is not handed over under its idempotency key, unless
-- it has been before.
--
-- KEYS[1]  the key that remembers:  PREFIX:once:{PREFIX:tasks:KIND}:ORG:KEY
-- ARGV[1]  how long that is remembered, in milliseconds
--
-- Returns 1 if the task is withdrawn, now or before, and 0 if it was handed over.

local earlier = redis.call('GET', KEYS[1])
if earlier then return earlier == '' and 1 or 0 end
redis.call('SET', KEYS[1], '', 'PX', ARGV[1])
return 1
