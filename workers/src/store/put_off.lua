-- Puts a leased payout off until its turn, which is due then, and what kept it from being done is forgiven. One that is to be sent nobody was allowed to send until then. Repeatable.
--
-- KEYS  1 payout  2 due index of its lane  3 clock   ARGV  1 payout id  2 token of its lease  3 wait, ms  4 channel of wake-ups  5 lane: execute or poll
-- Returns 1 where it was put off, 0 where the lease is somebody else's by now
local t = redis.call('TIME')
local turn = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[3]) or 0) + tonumber(ARGV[3])
local leased = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not leased or tonumber(leased) ~= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'l', 0, 'turn', turn)
if ARGV[5] == 'execute' then redis.call('HSET', KEYS[1], 'aside', turn) end
redis.call('ZADD', KEYS[2], turn, ARGV[1])
if redis.call('ZRANGE', KEYS[2], 0, 0)[1] == ARGV[1] then redis.call('PUBLISH', ARGV[4], ARGV[5]) end
return 1
