-- Writes how far a replay has come, decided on a version: its work goes on later, or it has ended. Of two who decide, one is told to look again.
--
-- KEYS  1 replay  2 due:replay  3 subscription  4 ended replays  5 clock   ARGV  1 id  2 version decided on  3 record  4 how long until it goes on, ms, or '' at its end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[5]) or 0)
local version = redis.call('HGET', KEYS[1], 'v')
if version ~= ARGV[2] then return version and 'stale' or 'missing' end
redis.call('HSET', KEYS[1], 'v', ARGV[2] + 1, 'rec', ARGV[3], 'l', '0')
if ARGV[4] ~= '' then
  redis.call('ZADD', KEYS[2], now + ARGV[4], ARGV[1])
else
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('ZADD', KEYS[4], now, ARGV[1])
  if redis.call('HGET', KEYS[3], 'replay') == ARGV[1] then redis.call('HDEL', KEYS[3], 'replay') end
end
return 'committed'
