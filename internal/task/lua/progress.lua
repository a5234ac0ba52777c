-- Publishes an event of a task unless its terminal event has been published.
-- KEYS: the task's end, the group's channel. ARGV: the event. Returns 1 if it was published.
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('PUBLISH', KEYS[2], ARGV[1])
return 1
