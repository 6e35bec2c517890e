-- Claims the next look at a payout, at most one in a time, for whoever asks. The time is the store's, so that a look is not missed by a clock that runs ahead.
--
-- KEYS  1 time of the last look  2 clock   ARGV  1 shortest time between two looks, ms
-- Returns 0, or for how many ms nobody may look again
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[2]) or 0)
local again = tonumber(redis.call('GET', KEYS[1]) or 0) + tonumber(ARGV[1])
if again > now then return again - now end
redis.call('SET', KEYS[1], now, 'PX', ARGV[1])
return 0
