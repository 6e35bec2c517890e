-- Gives a payout its turn to be looked for, at all providers that could have it at one time: at each of them so many looks, spaced so that no more are made in a second than
-- are allowed. Turns are given in the order in which they are asked for. Repeatable: a turn whose answer was lost is one that nobody uses.
--
-- KEYS  1 when each provider is free again, µs   ARGV  1 offset of the store's clock, ms  2 time from one look to the next, µs  3 longest wait, ms, then (provider and mode,
--       looks) each
-- Returns for how many ms to wait for the turn, or -1: longer than that, and none was given
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2] + ARGV[1] * 1000
local turn = now
for i = 4, #ARGV, 2 do turn = math.max(turn, tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or 0)) end
local wait = math.ceil((turn - now) / 1000)
if wait > tonumber(ARGV[3]) then return -1 end
for i = 4, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], string.format('%.0f', turn + ARGV[i + 1] * ARGV[2])) end
return wait
