-- Hands out the first entry of a line, which then waits for its outcome. Organizations take turns, and
-- so do the lines of one.
--
-- ARGV[1]  how long the line is left alone while there is no outcome
-- ARGV[2]… organizations that are passed over
--
-- Returns organization, line, entry, and how often it was tried; or only the time until an entry may
-- be due, empty if none waits.

local passed = {}
for i = 2, #ARGV do passed[ARGV[i]] = true end

-- What an organization has to hand out now. Its place in the ring is corrected on the way.
local function first(org)
  local line, at = unpack(redis.call('ZRANGE', dueOf(org), 0, 0, 'WITHSCORES'))
  if not line then
    redis.call('ZREM', ring, org)
  elseif tonumber(at) > now then
    redis.call('ZADD', ring, at, org)
  else
    local entry = redis.call('LINDEX', lineOf(org, line), 0)
    if entry then return line, entry end
    redis.call('ZREM', dueOf(org), line)
  end
end

for _ = 1, 16 do
  local wrong = false
  for _, org in ipairs(redis.call('ZRANGEBYSCORE', ring, '-inf', whole(now), 'LIMIT', 0, #ARGV + 15)) do
    if not passed[org] then
      local line, entry = first(org)
      if line then
        redis.call('ZADD', dueOf(org), whole(now + tonumber(ARGV[1])), line)
        local _, at = unpack(redis.call('ZRANGE', dueOf(org), 0, 0, 'WITHSCORES'))
        redis.call('ZADD', ring, whole(math.max(now, tonumber(at))), org)
        return {org, line, entry, redis.call('HGET', base .. 'tries:' .. org, line) or '0'}
      end
      wrong = true
    end
  end
  if not wrong then break end
end
local _, at = unpack(redis.call('ZRANGEBYSCORE', ring, '(' .. whole(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1))
return {at and whole(tonumber(at) - now) or ''}
