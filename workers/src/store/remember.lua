-- Stores a notice once, with the work to settle it. The claim of its id and the work are one write, so none is recorded and forgotten.
-- A hint that is known is counted, because it may tell of something newer than the look that is under way; one that was put aside begins anew.
--
-- KEYS  1 notice  2 due:settle  3 clock   ARGV  1 sealed body  2 notice id  3 key prefix  4 '1' for a hint
if redis.call('EXISTS', KEYS[1]) == 1 then
  if ARGV[4] ~= '1' then return 'known' end
  if redis.call('HEXISTS', KEYS[1], 'ended') == 0 then
    redis.call('HINCRBY', KEYS[1], 'n', 1)
    return 'known'
  end
  redis.call('DEL', KEYS[1])
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[3]) or 0)
redis.call('HSET', KEYS[1], 'body', ARGV[1], 'at', now, 'l', '0', 'n', '1')
redis.call('ZADD', KEYS[2], now, ARGV[2])
redis.call('PUBLISH', ARGV[3] .. 'wake', 'settle')
return 'new'
