-- Charges bytes to the buckets of an organization and of one of its users: both, or neither.
--
-- KEYS[1]  bucket of the organization:  PREFIX:{ORG}:bytes
-- KEYS[2]  bucket of the user:          PREFIX:{ORG}:bytes:USER
-- ARGV[1]  bytes
-- ARGV[2]  time in which an empty bucket fills up again, in milliseconds
-- ARGV[3]  size of the organization's bucket; 0 is no limit
-- ARGV[4]  size of the user's bucket; 0 is no limit
--
-- Returns 0, or the number of the key whose bucket has too little left; then nothing is charged. A
-- bucket that is full is no key at all. All names are in one slot of a Redis Cluster.

local bytes, period = tonumber(ARGV[1]), tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local used = {}
for i = 1, 2 do
  local limit = tonumber(ARGV[i + 2])
  if limit > 0 then
    local spent, at = string.match(redis.call('GET', KEYS[i]) or '', '^(%S+) (%d+)$')
    used[i] = 0
    if spent then
      if tonumber(at) > now then -- the clock was set back: else nothing came back until it got there
        at = string.format('%.0f', now)
        redis.call('SET', KEYS[i], spent .. ' ' .. at, 'PX', ARGV[2])
      end
      local passed = math.max(now - tonumber(at), 0)
      used[i] = math.max(tonumber(spent) - passed * limit / period, 0)
    end
    if used[i] + bytes > limit then
      return i
    end
  end
end
for i, before in pairs(used) do
  local after = before + bytes
  -- All digits of a double, so that no rounding adds up.
  local life = math.max(math.ceil(after / tonumber(ARGV[i + 2]) * period), 1)
  redis.call('SET', KEYS[i], string.format('%.17g %.0f', after, now), 'PX', string.format('%.0f', life))
end
return 0
