-- Puts a dead letter back into its line, behind what waits there.
--
-- ARGV[1]  organization
-- ARGV[2]  id of the letter
--
-- Returns 1, or 0 if there is no such letter.

local org = ARGV[1]
local dead = base .. 'dead:' .. org
local letter = redis.call('XRANGE', dead, ARGV[2], ARGV[2])[1]
if not letter then return 0 end
local fields = {}
for i = 1, #letter[2], 2 do fields[letter[2][i]] = letter[2][i + 1] end
push(org, fields.line, fields.entry)
redis.call('XDEL', dead, ARGV[2])
if redis.call('XLEN', dead) == 0 then
  redis.call('DEL', dead)
  redis.call('SREM', base .. 'dead', org)
end
return 1
