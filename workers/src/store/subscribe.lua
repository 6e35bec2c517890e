-- Writes a subscription, decided on a version, and the index that the commit script matches events with. Repeatable.
--
-- KEYS  1 subscription  2 matched subscriptions of the party  3 all subscriptions of the party  4 lanes  5 what waits in its lane  6 clock
--       and where that is told: 7 bulletin of the party
-- ARGV  1 version decided on ('0' creates)  2 new version  3 record  4 sealed secrets, or ''  5 filter ('' = not matched)  6 id
--       7 most subscriptions of a party  8 '1' deletes  9 write token
--       10 '1' while it is paused  11 most deliveries under way, or ''  12 deliveries a second, or ''  13 '1' if it begins afresh  14 channel of wake-ups
--       and where that is told (tell.lua): 15 key prefix  16 id of the bulletin  17 number  18 type  19 stored text  20 events that are kept
--       21 id of what is left at the URL before, or ''  22 its record  23 its sealed secrets
local key = KEYS[1]
local held = redis.call('HMGET', key, 'v', 'token', 'paused', 'most', 'rate')
if held[2] == ARGV[9] then return 'done' end
if ARGV[1] == '0' then
  if held[1] then return 'stale' end
  if redis.call('SCARD', KEYS[3]) >= tonumber(ARGV[7]) then return 'full' end
elseif held[1] ~= ARGV[1] then
  return held[1] and 'stale' or 'missing'
end

if KEYS[7] and tonumber(redis.call('HGET', KEYS[7], 'n') or 0) + 1 ~= tonumber(ARGV[17]) then return 'moved' end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[6]) or 0)

-- Whatever waits for it is looked at again, by the terms of now.
local function look_again()
  if redis.call('EXISTS', KEYS[5]) == 0 then return end
  redis.call('ZADD', KEYS[4], 'LT', now, ARGV[6])
  redis.call('PUBLISH', ARGV[14], 'relay')
end

if ARGV[8] == '1' then
  redis.call('DEL', key)
  redis.call('HDEL', KEYS[2], ARGV[6])
  redis.call('SREM', KEYS[3], ARGV[6])
  look_again()
  return 'committed'
end
redis.call('HSET', key, 'v', ARGV[2], 'rec', ARGV[3], 'token', ARGV[9])
if ARGV[4] ~= '' then redis.call('HSET', key, 'sec', ARGV[4]) end
redis.call('SADD', KEYS[3], ARGV[6])
if ARGV[5] == '' then redis.call('HDEL', KEYS[2], ARGV[6]) else redis.call('HSET', KEYS[2], ARGV[6], ARGV[5]) end

-- Its share begins anew where its limits have changed, and its troubles are forgotten where a person says so.
if ARGV[13] == '1' then redis.call('HDEL', key, 'fails', 'since', 'warned', 'failed', 'until', 'window', 'share') end
local function becomes(field, was, value)
  if (was or '') == value then return end
  if value == '' then redis.call('HDEL', key, field) else redis.call('HSET', key, field, value) end
  redis.call('HDEL', key, 'window', 'share', 'next')
end
becomes('paused', held[3], ARGV[10] == '1' and '1' or '')
becomes('most', held[4], ARGV[11])
becomes('rate', held[5], ARGV[12])
-- A window of 0 leads to the gate in lease_relay.lua: others never look there, and nothing is handed over past it.
if ARGV[10] == '1' or ARGV[12] ~= '' or redis.call('HEXISTS', key, 'until') == 1 then
  redis.call('HSET', key, 'window', 0)
elseif ARGV[11] ~= '' and tonumber(ARGV[11]) < tonumber(redis.call('HGET', key, 'window') or 4) then
  redis.call('HSET', key, 'window', ARGV[11])
end
look_again()
if KEYS[7] then
  if ARGV[21] ~= '' then
    local left = ARGV[15] .. 'sub:' .. ARGV[21]
    -- It goes with the end of its only delivery (relayed.lua). No schedule of tries is as long as this.
    redis.call('HSET', left, 'v', 1, 'rec', ARGV[22], 'sec', ARGV[23], 'farewell', 1)
    redis.call('EXPIRE', left, 2592000)
  end
  tell({ prefix = ARGV[15], id = ARGV[16], sequence = ARGV[17], kind = ARGV[18], text = ARGV[19], subs = KEYS[2], lanes = KEYS[4], kept = ARGV[20], once = '', also = ARGV[21] }, now)
end
return 'committed'
