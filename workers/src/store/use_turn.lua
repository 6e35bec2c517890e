-- Uses the turn that a payout was put off for, once its time has come.
--
-- KEYS  1 payout  2 clock   ARGV  1 how long a turn can be used, ms
-- Returns 0 where it is used now, for how many ms to wait for it, or -1 where there is none any more
local turn = tonumber(redis.call('HGET', KEYS[1], 'turn') or '')
if not turn then return -1 end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[2]) or 0)
if now < turn then return turn - now end
redis.call('HDEL', KEYS[1], 'turn')
return now <= turn + ARGV[1] and 0 or -1
