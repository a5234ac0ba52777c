-- Says which commands the user who runs this script may not run. It runs none of them.
-- ARGV[1]: the commands with their arguments, as JSON. Returns the indexes of those that are not allowed,
-- or -1 if this version of Redis cannot tell.
if not redis.acl_check_cmd then
  return {-1}
end
local denied = {}
for i, command in ipairs(cjson.decode(ARGV[1])) do
  if not redis.acl_check_cmd(unpack(command)) then
    denied[#denied + 1] = i
  end
end
return denied
