-- Ends the feed of a party. What is left is the place that it had come to, so that the next one begins behind it. Repeatable.
--
-- KEYS  1 matched subscriptions of the party  2 feeds  3 feed   ARGV  1 party
redis.call('HDEL', KEYS[1], 'feed')
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('XTRIM', KEYS[3], 'MAXLEN', 0)
