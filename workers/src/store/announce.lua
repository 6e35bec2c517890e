-- Adds an event to the bulletin of a party, once, as the number that it was written for. Repeatable.
--
-- KEYS  1 bulletin  2 matched subscriptions of the party  3 lanes  4 clock
-- ARGV  1 key prefix  2 id of the bulletin  3 number  4 type  5 stored text  6 events that are kept  7 what is told once
-- Returns 'committed', 'done', or 'moved' where the number is another one by now
if redis.call('HEXISTS', KEYS[1], 'once:' .. ARGV[7]) == 1 then return 'done' end
if tonumber(redis.call('HGET', KEYS[1], 'n') or 0) + 1 ~= tonumber(ARGV[3]) then return 'moved' end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[4]) or 0)
tell({ prefix = ARGV[1], id = ARGV[2], sequence = ARGV[3], kind = ARGV[4], text = ARGV[5], subs = KEYS[2], lanes = KEYS[3], kept = ARGV[6], once = ARGV[7], also = '' }, now)
return 'committed'
