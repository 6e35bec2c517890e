-- Since when the server that answers holds this shard, as far as that was noticed: a server names itself anew with each start, and another one has
-- another name. What was permitted before may be missing here. Repeatable.
--
-- KEYS  1 server  2 clock
-- Returns when this one was first seen, ms
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
local is = redis.call('HMGET', KEYS[1], 'run', 'since')
if is[1] == run then return is[2] end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[2]) or 0)
redis.call('HSET', KEYS[1], 'run', run, 'since', now)
return now
