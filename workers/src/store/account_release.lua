-- Makes a page of the payouts due again that were set aside because the ledger of their account was at fault, unless it still is. Repeatable, until nothing waits.
--
-- KEYS  1 account  2 held  3 due:execute  4 accounts at fault with payouts aside  5 clock   ARGV  1 name of the account  2 payouts of a page  3 key prefix
-- Returns { 1 if it is still at fault, how many wait }
local fault = redis.call('HEXISTS', KEYS[1], 'fault')
if fault == 0 then
  local t = redis.call('TIME')
  local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[5]) or 0)
  release_held(KEYS[2], KEYS[3], ARGV[3], tonumber(ARGV[2]), now, now)
end
local left = redis.call('ZCARD', KEYS[2])
if fault == 0 and left == 0 then redis.call('ZREM', KEYS[4], ARGV[1]) end
return { fault, left }
