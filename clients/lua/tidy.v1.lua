-- Forgets consumers that hold nothing and have not been heard of for a while, and this one.
-- KEYS: the stream. ARGV: consumer group, the while in ms, this consumer.
for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = {}
  for i = 1, #info, 2 do consumer[info[i]] = info[i + 1] end
  if consumer.pending == 0 and (consumer.name == ARGV[3] or consumer.idle >= tonumber(ARGV[2])) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
  end
end
return 1
