-- Makes the delivery of one event to one subscription due now: sooner, if it waits for its time, or once more, if it has ended. Repeatable.
--
-- KEYS  1 payout  2 what waits in the lane  3 what is under way  4 lanes  5 clock  6 subscription  7 abandoned  8 those of the subscription  9 subscriptions behind the fan-out
-- ARGV  1 member  2 subscription  3 sequence  4 delivery record that was seen, or ''  5 the one to be, if it has ended  6 channel of wake-ups
local record, queue = 'd:' .. ARGV[2] .. ':' .. ARGV[3], 'q:' .. ARGV[2]
if redis.call('HEXISTS', KEYS[6], 'v') == 0 or redis.call('HEXISTS', KEYS[1], 'e:' .. ARGV[3]) == 0 then return 'missing' end
if redis.call('ZSCORE', KEYS[3], ARGV[1]) then return 'flying' end
if is_coming(KEYS[1], KEYS[9], ARGV[2], ARGV[3]) then return 'coming' end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[5]) or 0)
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  if string.find(',' .. (redis.call('HGET', KEYS[1], queue) or '') .. ',', ',' .. ARGV[3] .. ',', 1, true) then return 'queued' end
  if (redis.call('HGET', KEYS[1], record) or '') ~= ARGV[4] then return 'stale' end
  redis.call('HSET', KEYS[1], record, ARGV[5])
  redis.call('ZREM', KEYS[7], ARGV[2] .. '/' .. ARGV[1])
  redis.call('ZREM', KEYS[8], ARGV[1])
end
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('ZADD', KEYS[4], 'LT', now, ARGV[2])
redis.call('PUBLISH', ARGV[6], 'relay')
return 'committed'
