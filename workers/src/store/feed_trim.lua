-- Forgets a page of what a feed holds from before a time, and notes how far, for those who come with an older place. Repeatable.
--
-- KEYS  1 feeds  2 feed   ARGV  1 party  2 the time, ms  3 entries, at most
-- Returns how many were forgotten
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
local old = redis.call('XRANGE', KEYS[2], '-', '(' .. ARGV[2] .. '-0', 'COUNT', ARGV[3])
if #old == 0 then return 0 end
local ms, number = string.match(old[#old][1], '^(%d+)-(%d+)$')
redis.call('HSET', KEYS[1], ARGV[1], old[#old][1])
return redis.call('XTRIM', KEYS[2], 'MINID', '=', ms .. '-' .. string.format('%d', number + 1))
