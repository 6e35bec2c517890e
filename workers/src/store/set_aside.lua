-- Takes a leased payout out of its lane for as long as nobody is allowed to send it: while its party is frozen, or its account's ledger is at fault. Where neither
-- is so, or dispatch is frozen for all, it stays; forgiven is in any case what kept it from being done. Repeatable.
--
-- KEYS  1 payout  2 due:execute  3 stop of the party  4 account  5 freeze of the shard  6 accounts at fault with payouts aside  7 clock
-- ARGV  1 payout id  2 token of its lease  3 name of the party  4 name of the account  5 key prefix
-- Returns 'party' or 'account' where it was set aside, else ''
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[7]) or 0)
redis.call('HSET', KEYS[1], 'l', 0, 'aside', now)
if redis.call('EXISTS', KEYS[5]) == 1 then return '' end
local at = redis.call('HEXISTS', KEYS[3], 'frozen') == 1 and 'party' or redis.call('HEXISTS', KEYS[4], 'fault') == 1 and 'account' or ''
local leased = redis.call('ZSCORE', KEYS[2], ARGV[1])
if at == '' or not leased or tonumber(leased) ~= tonumber(ARGV[2]) then return '' end
local place = at .. ':' .. (at == 'party' and ARGV[3] or ARGV[4])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', ARGV[5] .. 'held:' .. place, now, ARGV[1])
redis.call('HSET', KEYS[1], 'held', place)
if at == 'account' then redis.call('ZADD', KEYS[6], 'NX', now, ARGV[4]) end
return at
