-- What is kept of the fingerprint of the request that claimed a payout's key, however long ago; nil where it was not claimed.
--
-- KEYS  1 payout   ARGV  1 key prefix  2 payout id
return redis.call('HGET', KEYS[1], 'fp') or tombstone(ARGV[1], ARGV[2], tombstones(ARGV[1]))
