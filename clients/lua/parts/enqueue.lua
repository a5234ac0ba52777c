-- Puts an entry into the line of an organization, which has its turn from now on. text is the entry's
-- fields and values as a list in JSON, push is RPUSH or LPUSH.
local function enqueue(org, text, push)
  if redis.call(push, lineOf(org), text) == 1 then
    redis.call('HSET', lines, org, #text)
  else
    redis.call('HINCRBY', lines, org, #text)
  end
  redis.call('HINCRBY', lines, ':entries', 1)
  redis.call('HINCRBY', lines, ':bytes', #text)
  redis.call('ZADD', ring, 'NX', redis.call('HGET', lines, ':turn') or 0, org)
end
