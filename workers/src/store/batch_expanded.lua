-- Records what became of a page of a batch, in place of the page, and makes the next one due. Only the holder of the lease gets through; a repeat
-- answers 'lost', which is harmless: it was recorded.
--
-- KEYS  1 batch  2 due:expand  3 batches  4 page  5 its results  6 payouts of the batch  7 clock  8 batches that were opened whole
-- ARGV  1 id  2 token  3 number of the page  4 results  5 '1' for the last page  6 key prefix  7 number of outcomes, then (name, count) each
--       number of groups, then (id, record) each; then the ids of payouts
local leased = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not leased or tonumber(leased) ~= tonumber(ARGV[2]) then return 'lost' end
if redis.call('HGET', KEYS[1], 'page') ~= ARGV[3] then return 'lost' end

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[7]) or 0)
redis.call('DEL', KEYS[4])
redis.call('SET', KEYS[5], ARGV[4])
redis.call('HSET', KEYS[1], 'page', ARGV[3] + 1, 'l', '0')
local at = 8
for _ = 1, ARGV[7] do
  redis.call('HINCRBY', KEYS[1], 'n:' .. ARGV[at], ARGV[at + 1])
  at = at + 2
end
local groups = tonumber(ARGV[at])
at = at + 1
for _ = 1, groups do
  redis.call('HSET', ARGV[6] .. 'gr:' .. ARGV[at], 'rec', ARGV[at + 1], 'phase', 'open', 'l', '0')
  redis.call('ZADD', ARGV[6] .. 'due:group', now, ARGV[at])
  at = at + 2
end
if groups > 0 then redis.call('PUBLISH', ARGV[6] .. 'wake', 'group') end
if at <= #ARGV then redis.call('RPUSH', KEYS[6], unpack(ARGV, at)) end
if ARGV[5] == '1' then
  redis.call('HSET', KEYS[1], 'ended', now)
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('ZREM', KEYS[3], ARGV[1])
  redis.call('ZADD', KEYS[8], now, ARGV[1])
else
  redis.call('ZADD', KEYS[2], now, ARGV[1])
  redis.call('PUBLISH', ARGV[6] .. 'wake', 'expand')
end
return 'committed'
