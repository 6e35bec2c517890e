-- Begins the feed of a party: from the commit after this one on its events are noted in their order. Repeatable; an open one stays as it is.
--
-- KEYS  1 matched subscriptions of the party  2 feeds: party -> the place before which nothing is kept  3 feed   ARGV  1 party  2 filter
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then
  -- A place behind all that was ever told: who comes with one from before a gap learns of the gap.
  redis.call('HSET', KEYS[2], ARGV[1], redis.call('XADD', KEYS[3], '*', 'opened', ''))
  redis.call('XTRIM', KEYS[3], 'MAXLEN', 0)
end
redis.call('HSET', KEYS[1], 'feed', ARGV[2])
