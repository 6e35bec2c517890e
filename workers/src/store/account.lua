-- Writes what the platform has set up of a balance account, decided on a version. Repeatable.
--
-- KEYS  1 account  2 its ledger  3 ledgers of the shard  4 currencies of the party
-- ARGV  1 version decided on ('0' is an account that nobody has set up)  2 new version  3 write token  4 record  5 funding  6 status  7 sealed holder
--       8 currency
local held = redis.call('HMGET', KEYS[1], 'v', 'token', 'funding')
if held[2] == ARGV[3] then return 'done' end
if (held[1] or '0') ~= ARGV[1] then return 'stale' end
local begins = ARGV[5] == 'balance' and held[3] ~= 'balance'
local is = redis.call('HMGET', KEYS[2], 'available', 'reserved')
-- Who pays for a payout that is under way must not change.
if (held[3] or 'provider') ~= ARGV[5] and (is[2] or '0') ~= '0' then return 'busy' end
redis.call('HSET', KEYS[1], 'v', ARGV[2], 'token', ARGV[3], 'rec', ARGV[4], 'funding', ARGV[5], 'status', ARGV[6], 'sec', ARGV[7])
redis.call('SADD', KEYS[3], KEYS[2])
redis.call('SADD', KEYS[4], ARGV[8])
if begins and is[1] and string.sub(is[1], 1, 1) == '-' then
  -- What the provider has funded is not the account's debt.
  redis.call('HINCRBY', KEYS[2], 'available', string.sub(is[1], 2))
  redis.call('HINCRBY', KEYS[2], 'clearing', is[1])
end
return 'committed'
