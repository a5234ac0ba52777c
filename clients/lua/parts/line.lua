-- The name of an organization's line. Its slot in a Redis Cluster is that of the ring.
local function lineOf(org)
  return (string.gsub(ring, ':ring:', ':line:', 1)) .. ':' .. org
end
