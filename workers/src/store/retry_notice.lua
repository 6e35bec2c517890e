-- Makes a notice that was put aside or became an orphan due again, as if it had come now. Repeatable.
--
-- KEYS  1 notice  2 due:settle  3 orphans  4 clock   ARGV  1 id  2 key prefix
-- Returns 1 if there is such a notice, 0 if not.
if redis.call('HEXISTS', KEYS[1], 'ended') == 0 or not redis.call('ZSCORE', KEYS[3], ARGV[1]) then return 0 end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[4]) or 0)
redis.call('HDEL', KEYS[1], 'ended')
redis.call('HSET', KEYS[1], 'at', now, 'l', '0')
redis.call('PERSIST', KEYS[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('PUBLISH', ARGV[2] .. 'wake', 'settle')
return 1
