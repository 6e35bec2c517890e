-- Says of a group that it is sent, with the exact bytes, before its call: only the holder of the lease, only once, and never while dispatch is frozen.
-- A repeat by the same holder answers as the first call did.
--
-- KEYS  1 group  2 due:group  3 frozen   ARGV  1 id  2 token  3 record  4 sealed request
local leased = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not leased or tonumber(leased) ~= tonumber(ARGV[2]) then return 'lost' end
local held = redis.call('HMGET', KEYS[1], 'phase', 'begun')
if held[1] == 'sent' and held[2] == ARGV[2] then return 'begun' end
if held[1] ~= 'open' then return 'lost' end
if redis.call('EXISTS', KEYS[3]) == 1 then return 'frozen' end
redis.call('HSET', KEYS[1], 'phase', 'sent', 'begun', ARGV[2], 'rec', ARGV[3], 'req', ARGV[4], 'l', '0')
return 'begun'
