-- Writes a subscription, decided on a version, and the index that the commit script matches events with. Repeatable.
--
-- KEYS  1 subscription  2 matched subscriptions of the party  3 all subscriptions of the party
-- ARGV  1 version decided on ('0' creates)  2 new version  3 record  4 sealed secrets, or ''  5 filter ('' = not matched)  6 id
--       7 most subscriptions of a party  8 '1' deletes  9 write token
local held = redis.call('HMGET', KEYS[1], 'v', 'token')
if held[2] == ARGV[9] then return 'done' end
if ARGV[1] == '0' then
  if held[1] then return 'stale' end
  if redis.call('SCARD', KEYS[3]) >= tonumber(ARGV[7]) then return 'full' end
elseif held[1] ~= ARGV[1] then
  return held[1] and 'stale' or 'missing'
end
if ARGV[8] == '1' then
  redis.call('DEL', KEYS[1])
  redis.call('HDEL', KEYS[2], ARGV[6])
  redis.call('SREM', KEYS[3], ARGV[6])
  return 'committed'
end
redis.call('HSET', KEYS[1], 'v', ARGV[2], 'rec', ARGV[3], 'token', ARGV[9])
if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], 'sec', ARGV[4]) end
redis.call('SADD', KEYS[3], ARGV[6])
if ARGV[5] == '' then redis.call('HDEL', KEYS[2], ARGV[6]) else redis.call('HSET', KEYS[2], ARGV[6], ARGV[5]) end
return 'committed'
