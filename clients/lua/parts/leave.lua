-- Notes that an entry has left the line of an organization.
local function left(org, text)
  redis.call('HINCRBY', lines, org, -#text)
  redis.call('HINCRBY', lines, ':entries', -1)
  redis.call('HINCRBY', lines, ':bytes', -#text)
end
