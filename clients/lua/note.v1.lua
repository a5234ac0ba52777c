-- Replaces what is remembered of a request, for the rest of its life, if that is still what the caller has
-- read: a try that is late must not undo what a later one has noted.
-- KEYS: the request. ARGV: what the caller has read, what is to be remembered. Returns 1 if it was replaced.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
