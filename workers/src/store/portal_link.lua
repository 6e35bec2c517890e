-- Keeps a link to the portal until it is opened or too old.
--
-- KEYS  1 link  2 links of the party made lately   ARGV  1 what it grants  2 its life, ms  3 links of a party within that time, at most
-- Returns 1, or 0 if there were as many
if redis.call('EXISTS', KEYS[1]) == 1 then return 1 end -- a repeat
local made = redis.call('INCR', KEYS[2])
if made == 1 then redis.call('PEXPIRE', KEYS[2], ARGV[2]) end
if made > tonumber(ARGV[3]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
