-- Takes what was given up before a time off the lists, oldest first. What was given up once more since is as young as that. Repeatable.
--
-- KEYS  1 abandoned   ARGV  1 key prefix  2 given up until then, ms  3 entries, at most
-- Returns how many were taken off
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[2], 'LIMIT', 0, ARGV[3])
for _, entry in ipairs(old) do
  local subscription, member = string.match(entry, '^([^/]*)/(.*)$')
  if subscription then redis.call('ZREM', ARGV[1] .. 'abandoned:' .. subscription, member) end
  redis.call('ZREM', KEYS[1], entry)
end
return #old
