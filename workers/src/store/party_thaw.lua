-- Ends one freeze of a party, and makes a page of the payouts due again that waited for that; without an order it only goes on with what a thaw has
-- begun. Repeatable, until nothing waits: a freeze that came after that one stays.
--
-- KEYS  1 stop of the party  2 held  3 due:execute  4 stopped parties  5 clock
-- ARGV  1 name of the party  2 payouts of a page  3 key prefix  4 who thawed it, and why, or ''  5 when that freeze was ordered, as its record says
-- Returns { 1 if that freeze was ended, 1 if the party is frozen, how many still wait and are not of a freeze }
local frozen, ended = redis.call('HGET', KEYS[1], 'frozen'), 0
if frozen then
  if ARGV[4] == '' or cjson.decode(frozen).at ~= ARGV[5] then return { 0, 1, 0 } end
  redis.call('HDEL', KEYS[1], 'frozen', 'drained')
  redis.call('HSET', KEYS[1], 'thawed', ARGV[4])
  ended = 1
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[5]) or 0)
release_held(KEYS[2], KEYS[3], ARGV[3], tonumber(ARGV[2]), now, now)
local left = redis.call('ZCARD', KEYS[2])
if left == 0 then redis.call('ZREM', KEYS[4], ARGV[1]) end
return { ended, 0, left }
