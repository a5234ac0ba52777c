-- Answers a request for input, once. KEYS: the request. ARGV: the input.
-- Returns 1 if the answer was taken, 0 if there is one already, -1 if there is no such request.
if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
return redis.call('HSETNX', KEYS[1], 'input', ARGV[1])
