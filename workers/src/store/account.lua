-- Writes what the platform has set up of a balance account, decided on a version. Repeatable.
--
-- KEYS  1 account  2 its ledger  3 ledgers of the shard  4 currencies of the party
-- ARGV  1 version decided on ('0' is an account that nobody has set up)  2 new version  3 write token  4 record  5 funding  6 status  7 sealed holder
--       8 currency  9 '1' if it has a schedule
if redis.call('HGET', KEYS[1], 'token') == ARGV[3] then return 'done' end
local refused = refusal(KEYS[1], KEYS[2], ARGV[1], ARGV[5])
if refused then return refused end
set_up(KEYS[1], KEYS[2], KEYS[3], KEYS[4], unpack(ARGV, 2, 9))
return 'committed'
