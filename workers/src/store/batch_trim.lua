-- Forgets a batch but for the memory of its key. Repeatable.
--
-- KEYS  1 batch  2 batches that were opened whole  3 payouts of the batch  4.. results of its pages   ARGV  1 id
local fingerprint = redis.call('HGET', KEYS[1], 'fp')
if fingerprint then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'fp', fingerprint)
end
redis.call('UNLINK', unpack(KEYS, 3))
redis.call('ZREM', KEYS[2], ARGV[1])
