-- Puts what is on record of a delivery into the chain of its party, behind the link that was seen. Repeatable: what is in it already keeps its place.
--
-- KEYS  1 chain: 'n' links, the 'head', and each link by what it is of   ARGV  1 what it is of  2 links that were seen  3 hash of this one  4 link
local link = redis.call('HGET', KEYS[1], ARGV[1])
if link then return { 'linked', link } end
local seen = redis.call('HMGET', KEYS[1], 'n', 'head')
if (seen[1] or '0') ~= ARGV[2] then return { 'stale' } end
redis.call('HSET', KEYS[1], 'n', ARGV[2] + 1, 'head', ARGV[3], ARGV[1], ARGV[4])
return { 'linked', ARGV[4] }
