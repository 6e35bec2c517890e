-- Leases up to N due entries of a flat lane: each is scored again to now + lease, and that score is its fencing token.
-- Repeatable: what a lost answer had leased comes back when its lease ends.
--
-- KEYS  1 due index  2 clock  3 until when payouts that are asked for are suspect   ARGV  1 N  2 lease, ms  3 prefix of the entries' records  4.. fields to return with each entry
-- Returns { now, head score or '', value of the third key or '', { id, token, times leased, field, field, … }, … }
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[2]) or 0)
local token = now + tonumber(ARGV[2])
local out = { now, '', redis.call('GET', KEYS[3]) or '' }
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])) do
  redis.call('ZADD', KEYS[1], token, id)
  local key = ARGV[3] .. id
  local item = { id, token, redis.call('HINCRBY', key, 'l', 1) }
  for i, value in ipairs(redis.call('HMGET', key, unpack(ARGV, 4))) do item[3 + i] = value or '' end
  out[#out + 1] = item
end
local head = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if head[2] then out[2] = tonumber(head[2]) end
return out
