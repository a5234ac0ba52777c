-- Notes the outcome of an entry that was claimed.
--
-- ARGV[1]  organization
-- ARGV[2]  line
-- ARGV[3]  id of the entry
-- ARGV[4]  done, dead, again (it was tried) or later (it was not)
-- ARGV[5]  with again and later: the time until the next attempt
-- ARGV[6]  with dead: the reason
-- ARGV[7]  with dead: how many dead letters the organization keeps, about
-- ARGV[8]  with dead: how long they are kept, in milliseconds
--
-- Returns 1, or 0 if the entry is no longer the first of its line: then somebody else has noted an
-- outcome.

local org, line, id, outcome, pause = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local tries = base .. 'tries:' .. org
local entry = redis.call('LINDEX', lineOf(org, line), 0)
if not entry or string.sub(entry, 1, #id + 1) ~= id .. '\n' then return 0 end

if outcome == 'again' or outcome == 'later' then
  if outcome == 'again' then redis.call('HINCRBY', tries, line, 1) end
  redis.call('ZADD', dueOf(org), whole(now + pause), line)
  turn(org, now + pause)
  return 1
end
if outcome == 'dead' then
  local dead = base .. 'dead:' .. org
  redis.call('XADD', dead, 'MAXLEN', '~', ARGV[7], '*', 'line', line, 'entry', entry, 'reason', ARGV[6],
    'tries', (redis.call('HGET', tries, line) or 0) + 1)
  redis.call('PEXPIRE', dead, ARGV[8])
  redis.call('SADD', base .. 'dead', org)
end
redis.call('LPOP', lineOf(org, line))
count(org, -1, -#entry)
redis.call('HDEL', tries, line)
if redis.call('EXISTS', lineOf(org, line)) == 1 then
  redis.call('ZADD', dueOf(org), whole(now), line)
  turn(org, now)
else
  redis.call('ZREM', dueOf(org), line)
end
return 1
