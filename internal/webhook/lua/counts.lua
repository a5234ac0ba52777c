-- Returns how many entries wait, their bytes, and how many dead letters there are.

local dead = 0
for _, org in ipairs(redis.call('SMEMBERS', base .. 'dead')) do
  local n = redis.call('XLEN', base .. 'dead:' .. org)
  if n == 0 then redis.call('SREM', base .. 'dead', org) end -- they have expired
  dead = dead + n
end
local waiting = redis.call('HMGET', base .. 'bytes', ':entries', ':bytes')
return {tonumber(waiting[1] or 0), tonumber(waiting[2] or 0), dead}
