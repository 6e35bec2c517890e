-- Writes how far a schedule has come without opening a payout, decided on a version of the account. Repeatable.
--
-- KEYS  1 account  2 due:schedule  3 overdue  4 clock  5 frozen  6 look first  7 ledger
-- ARGV  1 version decided on  2 new version  3 record  4 member  5 how long until the next look, ms
--       6 what was available, if anything else now, or a payout that the store has forgotten, forbids it, or ''
local held = redis.call('HMGET', KEYS[1], 'v', 'rec')
if held[1] == ARGV[2] and held[2] == ARGV[3] then return 'done' end
if held[1] ~= ARGV[1] then return 'stale' end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[4]) or 0)
if ARGV[6] ~= '' and (redis.call('EXISTS', KEYS[5]) == 1 or tonumber(redis.call('GET', KEYS[6]) or 0) > now) then return 'undecided' end
if ARGV[6] ~= '' and (redis.call('HGET', KEYS[7], 'available') or '0') ~= ARGV[6] then return 'moved' end
come_to(KEYS[1], KEYS[2], KEYS[3], now, unpack(ARGV, 2, 5))
return 'committed'
