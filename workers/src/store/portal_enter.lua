-- Turns a link into a session, once.
--
-- KEYS  1 link  2 session   ARGV  1 now, ms  2 life of the session, ms
-- Returns 1, or 0 if the link is not there (any more)
local grant = redis.call('GET', KEYS[1])
-- The session's token was drawn for this call: if it is there, this is a repeat.
if not grant then return redis.call('EXISTS', KEYS[2]) end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[2], 'grant', grant, 'began', ARGV[1], 'seen', ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
