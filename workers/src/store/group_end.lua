-- Closes a group that nobody has begun, so that nobody can, or ends the work of one. Only the holder of the lease. Repeatable.
--
-- KEYS  1 group  2 due:group   ARGV  1 id  2 token  3 c(lose) e(nd)  4 for how long an ended group is kept, ms
-- Returns the phase after it, or 'lost'
local leased = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not leased or tonumber(leased) ~= tonumber(ARGV[2]) then return 'lost' end
if ARGV[3] == 'e' then
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
elseif redis.call('HGET', KEYS[1], 'phase') == 'open' then
  redis.call('HSET', KEYS[1], 'phase', 'closed')
end
return redis.call('HGET', KEYS[1], 'phase')
