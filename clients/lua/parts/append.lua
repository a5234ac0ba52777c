-- Adds the event to the history.
local function append()
  local entry = hash and {'event', event, 'key', hash} or {'event', event}
  local position = redis.call('XADD', history, 'MAXLEN', '~', length, '*', unpack(entry))
  local now = tonumber(string.match(position, '^%d+')) -- positions go by the clock of Redis
  redis.call('XTRIM', history, 'MINID', string.format('%.0f', math.max(now - tonumber(age), 0)))
  redis.call('PEXPIRE', history, age)
  return position
end

-- What goes out on the channel.
local function message(position)
  return position .. (hash and ' #' .. hash or '') .. ' ' .. event
end
