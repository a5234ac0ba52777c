-- Opens a request for input, or finds it as it was if it has been opened before.
-- KEYS: the request. ARGV: prompt, life in ms. Returns 1 if it was opened.
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'prompt', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
