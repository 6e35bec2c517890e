-- Puts the next look at a schedule off, if the lease still holds. Repeatable.
--
-- KEYS  1 account  2 due:schedule  3 overdue  4 clock   ARGV  1 member  2 token  3 wait, ms  4 '1' if a payout is due and cannot be opened
local leased = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not leased or tonumber(leased) ~= tonumber(ARGV[2]) then return 'lost' end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[4]) or 0)
redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[1])
redis.call('HSET', KEYS[1], 'l', '0')
if ARGV[4] == '1' then redis.call('ZADD', KEYS[3], 'NX', now, ARGV[1]) else redis.call('ZREM', KEYS[3], ARGV[1]) end
return 'committed'
