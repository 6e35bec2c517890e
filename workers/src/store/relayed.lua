-- Records a try of a delivery and acknowledges its work. Of a payout's events for one subscription the next one enters the lane when this one
-- has ended. Only the holder of the lease gets through; a repeat answers 'lost', which is harmless: it was recorded.
--
-- KEYS  1 lanes  2 payout  3 waiting  4 flying  5 abandoned  6 clock
-- ARGV  1 subscription  2 member  3 token  4 sequence  5 delivery record  6 d(one) r(etry) a(bandoned)  7 due, ms, of a retry  8 payout id
--       9 whether the caller would take another delivery at once: '1' or '0'  10 its lease, ms  11 key prefix  12 widest window
-- Returns { 'committed', 1 if the lane is due earlier than it was } and, where one is handed over, what lease_relay.lua returns of each
local leased = redis.call('ZSCORE', KEYS[4], ARGV[2])
if not leased or tonumber(leased) ~= tonumber(ARGV[3]) then return { 'lost', 0 } end
local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[6]) or 0)
end
local subscription = ARGV[1]
local queue, lost = 'q:' .. subscription, 'l:' .. subscription
redis.call('ZREM', KEYS[4], ARGV[2])
-- How many deliveries of a subscription may be under way at a time is earned by acknowledgements, and half of it is lost by each failure: a subscriber
-- that hangs keeps next to nobody's turn.
local key = ARGV[11] .. 'sub:' .. subscription
local held = redis.call('HMGET', key, 'v', 'window')
local version, earned = held[1], tonumber(held[2] or 4)
local window = ARGV[6] == 'd' and math.min(earned + 1, math.max(earned, tonumber(ARGV[12]))) or math.max(1, math.floor(earned / 2))
-- A late record of a try must not leave anything behind for a subscription that is gone.
if window ~= earned and version then redis.call('HSET', key, 'window', window) end
redis.call('HSET', KEYS[2], 'd:' .. subscription .. ':' .. ARGV[4], ARGV[5])
if ARGV[6] == 'r' then
  redis.call('HDEL', KEYS[2], lost)
  redis.call('ZADD', KEYS[3], ARGV[7], ARGV[2])
else
  local open = redis.call('HGET', KEYS[2], queue) or ''
  local comma = string.find(open, ',', 1, true)
  local rest = comma and string.sub(open, comma + 1) or ''
  if rest == '' then
    redis.call('HDEL', KEYS[2], queue, lost)
  else
    redis.call('HDEL', KEYS[2], lost)
    redis.call('HSET', KEYS[2], queue, rest)
    local after = string.find(rest, ',', 1, true)
    redis.call('ZADD', KEYS[3], clock(), ARGV[8] .. '/' .. (after and string.sub(rest, 1, after - 1) or rest))
  end
  if ARGV[6] == 'a' then redis.call('ZADD', KEYS[5], clock(), subscription .. '/' .. ARGV[2]) end
end

local head = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
local next, due = head[1], tonumber(head[2])
if not next then
  if redis.call('ZCARD', KEYS[4]) == 0 then redis.call('ZREM', KEYS[1], subscription) end
  return { 'committed', 0 }
end
-- A lane whose turn has come is left as it is: whoever leases next comes by.
local now = clock()
if due <= now and ARGV[9] == '1' and redis.call('ZCARD', KEYS[4]) < window and redis.call('ZCOUNT', KEYS[1], '-inf', now) == 0 then
  -- Nobody's turn has come, so this subscription goes on: the lease that ended makes room for the next one.
  local token = now + tonumber(ARGV[10])
  redis.call('ZREM', KEYS[3], next)
  redis.call('ZADD', KEYS[4], token, next)
  redis.call('ZADD', KEYS[1], 'LT', token, subscription)
  local slash = string.find(next, '/', 1, true)
  local key, sequence = ARGV[11] .. 'po:' .. string.sub(next, 1, slash - 1), string.sub(next, slash + 1)
  local held = redis.call('HMGET', key, 'e:' .. sequence, 'd:' .. subscription .. ':' .. sequence, lost, 'meta')
  return { 'committed', 0, { subscription, version or '', next, token, tonumber(held[3] or 0) + 1, held[1] or '', held[2] or '', held[4] or '' } }
end
due = math.max(due, now)
local sooner = redis.call('ZADD', KEYS[1], 'LT', 'CH', due, subscription) == 1
return { 'committed', sooner and due <= now and 1 or 0 }
