-- Returns how many entries wait, their bytes, and how many dead letters there are.
--
-- ARGV[1]  organization; without it, those of all are counted

if ARGV[1] then
  local waiting = redis.call('HMGET', base .. 'bytes', ARGV[1] .. ':entries', ARGV[1])
  return {tonumber(waiting[1] or 0), tonumber(waiting[2] or 0), redis.call('XLEN', base .. 'dead:' .. ARGV[1])}
end

local dead = 0
for _, org in ipairs(redis.call('SMEMBERS', base .. 'dead')) do
  local n = redis.call('XLEN', base .. 'dead:' .. org)
  if n == 0 then redis.call('SREM', base .. 'dead', org) end -- they have expired
  dead = dead + n
end
local waiting = redis.call('HMGET', base .. 'bytes', ':entries', ':bytes')
return {tonumber(waiting[1] or 0), tonumber(waiting[2] or 0), dead}
