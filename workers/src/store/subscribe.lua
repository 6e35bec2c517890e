-- Writes a subscription, decided on a version, and the index that events are matched with. Repeatable.
--
-- The first ones of a party stand in the index that commits match; the others stand behind its fan-out, one entry of that index (fan_out.lua). Each keeps the place that it was
-- made with, also while it wants nothing; a place that becomes free is taken by the next one that is made.
--
-- KEYS  1 subscription  2 subscriptions that commits match  3 all subscriptions of the party, by the order in which they were made  4 lanes  5 what waits in its lane  6 clock
--       7 subscriptions behind the fan-out, by the order in which they came there  8 the latest number of these orders  9 the fan-out, as a subscription is kept
--       and where that is told: 10 bulletin of the party
-- ARGV  1 version decided on ('0' creates)  2 new version  3 record  4 sealed secrets, or ''  5 filter ('' = wants nothing)  6 id
--       7 most subscriptions of a party  8 '1' deletes  9 write token
--       10 '1' while it is paused  11 most deliveries under way, or ''  12 deliveries a second, or ''  13 '1' if it begins afresh  14 channel of wake-ups
--       15 most subscriptions that commits match  16 name of the fan-out
--       and where that is told (tell.lua): 17 key prefix  18 id of the bulletin  19 number  20 type  21 stored text  22 events that are kept
--       23 id of what is left at the URL before, or ''  24 its record  25 its sealed secrets
local key, id, filter, fan_out = KEYS[1], ARGV[6], ARGV[5], ARGV[16]
-- Whose it is, for whoever leases.
local of = string.match(KEYS[2], 'subs:([^{}]+)$')
local held = redis.call('HMGET', key, 'v', 'token', 'paused', 'most', 'rate', 'wants')
if held[2] == ARGV[9] then return 'done' end
if ARGV[1] == '0' then
  if held[1] then return 'stale' end
  if redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[7]) then return 'full' end
elseif held[1] ~= ARGV[1] then
  return held[1] and 'stale' or 'missing'
end

if KEYS[10] and tonumber(redis.call('HGET', KEYS[10], 'n') or 0) + 1 ~= tonumber(ARGV[19]) then return 'moved' end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[6]) or 0)

-- Whatever waits for it is looked at again, by the terms of now.
local function look_again()
  if redis.call('EXISTS', KEYS[5]) == 0 then return end
  redis.call('ZADD', KEYS[4], 'LT', now, id)
  redis.call('PUBLISH', ARGV[14], 'relay')
end

-- Events wait for those behind the fan-out while there are any; each says behind which number its own end.
local function keep_fan_out()
  if redis.call('EXISTS', KEYS[7]) == 1 then
    redis.call('HSET', KEYS[2], fan_out, '#' .. redis.call('GET', KEYS[8]))
    redis.call('HSET', KEYS[9], 'ok', '1', 'of', of)
  else
    redis.call('HDEL', KEYS[2], fan_out)
    redis.call('DEL', KEYS[9])
  end
end

if ARGV[8] == '1' then
  redis.call('DEL', key)
  redis.call('HDEL', KEYS[2], id)
  redis.call('ZREM', KEYS[3], id)
  if redis.call('ZREM', KEYS[7], id) == 1 then keep_fan_out() end
  look_again()
  return 'committed'
end
redis.call('HSET', key, 'v', ARGV[2], 'rec', ARGV[3], 'token', ARGV[9], 'of', of)
if ARGV[4] ~= '' then redis.call('HSET', key, 'sec', ARGV[4]) end
local behind, number = held[6], nil
if ARGV[1] == '0' then
  number = redis.call('INCR', KEYS[8])
  redis.call('ZADD', KEYS[3], number, id)
  local others = redis.call('HEXISTS', KEYS[2], 'feed') + redis.call('HEXISTS', KEYS[2], fan_out)
  if redis.call('HLEN', KEYS[2]) - others >= tonumber(ARGV[15]) then behind = '' end
end
if not behind then
  -- What is left at a URL before has no place.
  if ARGV[1] == '0' or redis.call('HEXISTS', KEYS[2], id) == 1 then redis.call('HSET', KEYS[2], id, filter) end
else
  redis.call('HSET', key, 'wants', filter)
  if filter == '' then
    redis.call('ZREM', KEYS[7], id)
    keep_fan_out()
  elseif behind == '' then
    -- What was told before it comes, or comes again, is not for it.
    redis.call('ZADD', KEYS[7], number or redis.call('INCR', KEYS[8]), id)
    keep_fan_out()
  end
end

-- Its share begins anew where its limits have changed, and its troubles are forgotten where a person says so.
if ARGV[13] == '1' then redis.call('HDEL', key, 'fails', 'since', 'warned', 'failed', 'until', 'window', 'share', 'ok') end
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
if KEYS[10] then
  if ARGV[23] ~= '' then
    local left = ARGV[17] .. 'sub:' .. ARGV[23]
    -- It goes with the end of its only delivery (relayed.lua). No schedule of tries is as long as this.
    redis.call('HSET', left, 'v', 1, 'rec', ARGV[24], 'sec', ARGV[25], 'farewell', 1, 'of', of)
    redis.call('EXPIRE', left, 2592000)
  end
  tell({ prefix = ARGV[17], id = ARGV[18], sequence = ARGV[19], kind = ARGV[20], text = ARGV[21], subs = KEYS[2], lanes = KEYS[4], kept = ARGV[22], once = '', also = ARGV[23] }, now)
end
return 'committed'
