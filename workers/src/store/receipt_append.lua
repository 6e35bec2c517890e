-- Puts what is on record of a delivery into the chain of its party, behind the link that was seen. Repeatable: what is in it already keeps its place.
--
-- KEYS  1 chain: 'n' links, 'from' the place and hash of the last one that is not kept any more, and by its place each link: when it was made, ms, its hash, and what
--       it is of, which leads to its place  2 chains
-- ARGV  1 what it is of  2 links that were seen  3 hash of this one  4 now, ms  5 party
-- Returns 'linked', or 'stale' where there are others by now
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return 'linked' end
if (redis.call('HGET', KEYS[1], 'n') or '0') ~= ARGV[2] then return 'stale' end
local place = string.format('%d', ARGV[2] + 1)
redis.call('SADD', KEYS[2], ARGV[5])
redis.call('HSET', KEYS[1], 'n', place, ARGV[1], place, place, ARGV[4] .. ' ' .. ARGV[3] .. ' ' .. ARGV[1])
return 'linked'
