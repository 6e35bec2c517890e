-- Records a try of a delivery and acknowledges its work. Of a payout's events for one subscription the next one enters the lane when this one
-- has ended. Only the holder of the lease gets through; a repeat answers 'lost', which is harmless: it was recorded.
--
-- KEYS  1 lanes  2 payout  3 waiting  4 flying  5 abandoned  6 clock
-- ARGV  1 subscription  2 member  3 token  4 sequence  5 delivery record  6 d(one) r(etry) a(bandoned)  7 due, ms, of a retry  8 payout id
local leased = redis.call('ZSCORE', KEYS[4], ARGV[2])
if not leased or tonumber(leased) ~= tonumber(ARGV[3]) then return { 'lost', 0 } end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[6]) or 0)
local subscription = ARGV[1]
local queue, lost = 'q:' .. subscription, 'l:' .. subscription
redis.call('ZREM', KEYS[4], ARGV[2])
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
    redis.call('ZADD', KEYS[3], now, ARGV[8] .. '/' .. (after and string.sub(rest, 1, after - 1) or rest))
  end
  if ARGV[6] == 'a' then redis.call('ZADD', KEYS[5], now, subscription .. '/' .. ARGV[2]) end
end
-- A lane whose turn has come is left as it is: whoever leases next comes by.
local turn = tonumber(redis.call('ZSCORE', KEYS[1], subscription) or math.huge)
if turn <= now then return { 'committed', 0 } end
local head = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2]
if head then
  local due = math.max(tonumber(head), now)
  if turn > due then
    redis.call('ZADD', KEYS[1], due, subscription)
    return { 'committed', due <= now and 1 or 0 }
  end
elseif redis.call('ZCARD', KEYS[4]) == 0 then
  redis.call('ZREM', KEYS[1], subscription)
end
return { 'committed', 0 }
