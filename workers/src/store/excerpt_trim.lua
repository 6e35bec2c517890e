-- Writes the record of a delivery without what its subscriber said long ago, if it still is as it was seen. Repeatable.
--
-- KEYS  1 payout or bulletin  2 excerpts: subscription/payout/sequence -> the first that is kept, ms
-- ARGV  1 entry  2 field of the record  3 the record as it was seen, or '' for none  4 the record to be, or '' as it is  5 the first excerpt that is still kept, ms, or ''
-- Returns 1, or 0 if it is another one by now
if (redis.call('HGET', KEYS[1], ARGV[2]) or '') ~= ARGV[3] then return 0 end
if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], ARGV[2], ARGV[4]) end
if ARGV[5] ~= '' then redis.call('ZADD', KEYS[2], ARGV[5], ARGV[1]) else redis.call('ZREM', KEYS[2], ARGV[1]) end
return 1
