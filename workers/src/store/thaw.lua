-- Ends the freeze of a shard that its caller has read, and no other one. Repeatable.
--
-- KEYS  1 frozen  2 look first  3 epoch   ARGV  1 the freeze as it was read  2 until when the payouts of now are suspect, ms, or ''  3 the highest epoch that a worker has on file
-- Returns 1, or 0 where that freeze has ended
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] ~= '' then redis.call('SET', KEYS[2], ARGV[2]) end
if tonumber(redis.call('GET', KEYS[3]) or 0) < tonumber(ARGV[3]) then redis.call('SET', KEYS[3], ARGV[3]) end
redis.call('DEL', KEYS[1])
return 1
