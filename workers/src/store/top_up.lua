-- Records money that came into a balance account, once per key. Repeatable.
--
-- KEYS  1 top-up  2 ledger  3 account  4 top-ups of the party
-- ARGV  1 write token  2 record  3 minor  4 id  5 when, ms  6 the most that an account may hold
local held = redis.call('HMGET', KEYS[1], 'token', 'rec')
if held[1] == ARGV[1] then return { 'done' } end
if held[1] then return { 'exists', held[2] } end
if redis.call('HGET', KEYS[3], 'funding') ~= 'balance' then return { 'provider-funded' } end
local is = redis.call('HMGET', KEYS[2], 'available', 'reserved')
if tonumber(is[1] or 0) + tonumber(is[2] or 0) + tonumber(ARGV[3]) > tonumber(ARGV[6]) then return { 'full' } end
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'rec', ARGV[2])
redis.call('HINCRBY', KEYS[2], 'top-ups', '-' .. ARGV[3])
redis.call('HINCRBY', KEYS[2], 'available', ARGV[3])
redis.call('ZADD', KEYS[4], ARGV[5], ARGV[4])
return { 'committed' }
