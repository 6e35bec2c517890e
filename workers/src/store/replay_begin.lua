-- Begins a replay: its record and its work, one at a time per subscription. Repeatable.
--
-- KEYS  1 replay  2 due:replay  3 subscription  4 replays of the subscription  5 clock   ARGV  1 id  2 record  3 channel of wake-ups
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[5]) or 0)
if redis.call('EXISTS', KEYS[1]) == 1 then return 'done' end
local held = redis.call('HMGET', KEYS[3], 'v', 'replay')
if not held[1] then return 'missing' end
if held[2] then return { 'busy', held[2] } end
redis.call('HSET', KEYS[1], 'v', 1, 'rec', ARGV[2])
redis.call('HSET', KEYS[3], 'replay', ARGV[1])
redis.call('ZADD', KEYS[4], now, ARGV[1])
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('PUBLISH', ARGV[3], 'replay')
return 'done'
