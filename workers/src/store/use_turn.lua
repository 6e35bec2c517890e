-- Uses the turn that a payout was put off for.
--
-- KEYS  1 payout  2 clock   ARGV  1 until when it can be used, ms
-- Returns 1, or 0 where it was used or is over
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[2]) or 0)
return redis.call('HDEL', KEYS[1], 'turn') == 1 and now <= tonumber(ARGV[1]) and 1 or 0
