-- Freezes dispatch for a party. The first freeze stays. Repeatable.
--
-- KEYS  1 stop of the party  2 stopped parties  3 clock   ARGV  1 name of the party  2 who froze it, and why
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[3]) or 0)
-- What a freeze before it has left, that was ended while it was written, is not when this one is effective.
if redis.call('HSETNX', KEYS[1], 'frozen', ARGV[2]) == 1 then redis.call('HDEL', KEYS[1], 'drained') end
redis.call('ZADD', KEYS[2], 'NX', now, ARGV[1])
return 1
