-- Ends the freeze of a party, and makes a page of the payouts due again that waited for that; without an order it only goes on with what a thaw has
-- begun. Repeatable, until nothing waits: an order that was carried out ends no freeze that came after it.
--
-- KEYS  1 stop of the party  2 held  3 due:execute  4 stopped parties  5 clock
-- ARGV  1 name of the party  2 payouts of a page  3 key prefix  4 who thawed it, and why, or ''
-- Returns { 1 if it was frozen, how many still wait }
local frozen = redis.call('HEXISTS', KEYS[1], 'frozen')
if frozen == 1 and (ARGV[4] == '' or redis.call('HGET', KEYS[1], 'thawed') == ARGV[4]) then return { 1, 0 } end
if frozen == 1 then
  redis.call('HDEL', KEYS[1], 'frozen', 'drained')
  redis.call('HSET', KEYS[1], 'thawed', ARGV[4])
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[5]) or 0)
release_held(KEYS[2], KEYS[3], ARGV[3], tonumber(ARGV[2]), now, now)
local left = redis.call('ZCARD', KEYS[2])
if left == 0 then redis.call('ZREM', KEYS[4], ARGV[1]) end
return { frozen, left }
