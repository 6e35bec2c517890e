-- Ends the pause of a circuit. Where it is open besides, one payout may be tried at once. Repeatable.
--
-- KEYS  1 circuit  2 due:circuit  3 clock   ARGV  1 name of the circuit  2 who resumed it, and why  3 key prefix
-- Returns 1 if it was paused or open
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[3]) or 0)
local paused, open = redis.call('HDEL', KEYS[1], 'paused'), redis.call('HEXISTS', KEYS[1], 'until')
if paused == 1 then redis.call('HSET', KEYS[1], 'freed', now) end
if open == 1 then redis.call('HSET', KEYS[1], 'until', now) end
if paused + open == 0 then return 0 end
redis.call('HSET', KEYS[1], 'resumed', ARGV[2])
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('PUBLISH', ARGV[3] .. 'wake', 'circuit')
return 1
