-- Writes records of a party, each decided on its version: the party itself, balance accounts, payout instruments. All of them or none. Repeatable.
--
-- KEYS  1 party  2 ledgers of the shard  3 currencies of the party  4 parties of the shard and mode
--       5.. of each account: the account, its ledger
-- ARGV  1 write token  2 most instruments of a party  3 '1' the party is inactive, '0' it is active, '' the party itself is not written  4 number of accounts
--       5.. for each account: version decided on, new version, record, funding, status, sealed holder, currency, '1' if it has a schedule
--       then for each other record: its name ('' is the party itself), version decided on ('' makes it), new version, sealed record
local key = KEYS[1]
local held = redis.call('HMGET', key, 'token', 'v', 'n')
if held[1] == ARGV[1] then return 'done' end
if not held[2] and ARGV[3] == '' then return 'missing' end

local accounts = tonumber(ARGV[4])
local first = 5 + 8 * accounts
local instruments = tonumber(held[3] or 0)
for i = first, #ARGV, 4 do
  local name, decided = ARGV[i], ARGV[i + 1]
  local version = redis.call('HGET', key, name == '' and 'v' or 'v:' .. name)
  if (version or '') ~= decided then return version and 'stale' or 'missing' end
  if name ~= '' and not version then instruments = instruments + 1 end
end
if instruments > tonumber(held[3] or 0) and instruments > tonumber(ARGV[2]) then return 'full' end
for i = 0, accounts - 1 do
  local refused = refusal(KEYS[5 + 2 * i], KEYS[6 + 2 * i], ARGV[5 + 8 * i], ARGV[8 + 8 * i])
  if refused then return refused end
end

for i = 0, accounts - 1 do
  local _, version, record, funding, status, holder, currency, planned = unpack(ARGV, 5 + 8 * i, 12 + 8 * i)
  set_up(KEYS[5 + 2 * i], KEYS[6 + 2 * i], KEYS[2], KEYS[3], version, ARGV[1], record, funding, status, holder, currency, planned)
end
local fields = { 'token', ARGV[1], 'n', instruments }
for i = first, #ARGV, 4 do
  local name = ARGV[i]
  fields[#fields + 1] = name == '' and 'v' or 'v:' .. name
  fields[#fields + 1] = ARGV[i + 2]
  fields[#fields + 1] = name == '' and 'rec' or 'i:' .. name
  fields[#fields + 1] = ARGV[i + 3]
end
redis.call('HSET', key, unpack(fields))
-- By name: all have the same score.
if ARGV[3] ~= '' then redis.call('ZADD', KEYS[4], 0, string.match(key, 'pa:(.+):%a+$')) end
-- What the commit that opens a payout looks at.
if ARGV[3] == '1' then redis.call('HSET', key, 'off', '1') elseif ARGV[3] == '0' then redis.call('HDEL', key, 'off') end
return 'committed'
