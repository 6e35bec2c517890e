-- Accepts a batch whose pages were stored before, and makes its expansion due, once per key. A repeat answers as the first call did.
--
-- KEYS  1 batch  2 due:expand  3 batches  4 clock  5.. the pages
-- ARGV  1 fingerprint  2 record  3 id  4 name of the upload  5 most batches that wait to be opened  6 key prefix
local held = redis.call('HMGET', KEYS[1], 'fp', 'upload')
if held[2] == ARGV[4] then return 'new' end
if held[1] then return held[1] == ARGV[1] and 'exists' or 'conflict' end
if redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[5]) then return 'full' end
for i = 5, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 then return 'expired' end
end

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[4]) or 0)
for i = 5, #KEYS do redis.call('PERSIST', KEYS[i]) end
redis.call('HSET', KEYS[1], 'fp', ARGV[1], 'rec', ARGV[2], 'upload', ARGV[4], 'page', '0', 'l', '0')
redis.call('ZADD', KEYS[2], now, ARGV[3])
redis.call('ZADD', KEYS[3], now, ARGV[3])
redis.call('PUBLISH', ARGV[6] .. 'wake', 'expand')
return 'new'
