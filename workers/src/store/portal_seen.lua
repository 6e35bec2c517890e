-- Notes that a session was used. One that has ended in the meantime stays so.
--
-- KEYS  1 session   ARGV  1 now, ms
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'seen', ARGV[1]) end
return 1
