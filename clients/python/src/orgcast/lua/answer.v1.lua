-- Answers a request for input, once. KEYS: the request. ARGV: the input; optional: a key of the answer.
-- Returns 1 if the answer was taken, now or before under the same key, 0 if there is another one already,
-- -1 if there is no such request.
if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
local taken, key = redis.call('HSETNX', KEYS[1], 'input', ARGV[1]), ARGV[2] or ''
if key == '' then return taken end
if taken == 1 then
  redis.call('HSETNX', KEYS[1], 'key', key)
  return 1
end
return redis.call('HMGET', KEYS[1], 'key')[1] == key and 1 or 0
