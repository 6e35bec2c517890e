-- Freezes dispatch of a shard. The first freeze stays, unless it says that nothing was lost and this one does not: whoever has found a loss knows better. Repeatable.
--
-- KEYS  1 frozen   ARGV  1 the freeze  2 '1' where it says that nothing was lost
-- Returns 1, or 0 where another one stays
local is = redis.call('GET', KEYS[1])
if is and (ARGV[2] == '1' or not cjson.decode(is).nothing_lost) then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
return 1
