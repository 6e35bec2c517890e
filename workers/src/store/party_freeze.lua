-- Freezes dispatch for a party. The first freeze stays. When it is effective is decided by what was let through until this very moment: who asked a moment later
-- could be answered by a thaw and another freeze in between. Repeatable.
--
-- KEYS  1 stop of the party  2 stopped parties  3 clock  4.. circuits of the shard
-- ARGV  1 name of the party  2 who froze it, and why  3 until when leases may last of which the store has forgotten, ms
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[3]) or 0)
if redis.call('HSETNX', KEYS[1], 'frozen', ARGV[2]) == 1 then
  local drained = math.max(now, tonumber(ARGV[3]))
  for circuit = 4, #KEYS do drained = math.max(drained, tonumber(redis.call('HGET', KEYS[circuit], 'last') or 0)) end
  redis.call('HSET', KEYS[1], 'drained', string.format('%d', drained))
end
redis.call('ZADD', KEYS[2], 'NX', now, ARGV[1])
return 1
