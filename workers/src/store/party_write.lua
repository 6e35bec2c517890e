-- Writes records of a party, each decided on its version: the party itself, payout instruments, or both. All of them or none. Repeatable.
--
-- KEYS  1 party
-- ARGV  1 write token  2 most instruments of a party  3 '1' the party is inactive, '0' it is active, '' only instruments are written
--       4.. for each record: its name ('' is the party itself), version decided on ('' makes it), new version, sealed record
local key = KEYS[1]
local held = redis.call('HMGET', key, 'token', 'v', 'n')
if held[1] == ARGV[1] then return 'done' end
if not held[2] and ARGV[3] == '' then return 'missing' end

local instruments = tonumber(held[3] or 0)
for i = 4, #ARGV, 4 do
  local name, decided = ARGV[i], ARGV[i + 1]
  local version = redis.call('HGET', key, name == '' and 'v' or 'v:' .. name)
  if (version or '') ~= decided then return version and 'stale' or 'missing' end
  if name ~= '' and not version then instruments = instruments + 1 end
end
if instruments > tonumber(held[3] or 0) and instruments > tonumber(ARGV[2]) then return 'full' end

local fields = { 'token', ARGV[1], 'n', instruments }
for i = 4, #ARGV, 4 do
  local name = ARGV[i]
  fields[#fields + 1] = name == '' and 'v' or 'v:' .. name
  fields[#fields + 1] = ARGV[i + 2]
  fields[#fields + 1] = name == '' and 'rec' or 'i:' .. name
  fields[#fields + 1] = ARGV[i + 3]
end
redis.call('HSET', key, unpack(fields))
-- What the commit that opens a payout looks at.
if ARGV[3] == '1' then redis.call('HSET', key, 'off', '1') elseif ARGV[3] == '0' then redis.call('HDEL', key, 'off') end
return 'committed'
