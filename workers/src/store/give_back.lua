-- Makes leased entries of a flat lane due again, those that are still leased under the given token. Repeatable.
--
-- KEYS  1 due index  2 clock   ARGV  1 wait, ms  then (id, token) each
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[2]) or 0)
local given = 0
for i = 2, #ARGV, 2 do
  local leased = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if leased and tonumber(leased) == tonumber(ARGV[i + 1]) then
    redis.call('ZADD', KEYS[1], now + tonumber(ARGV[1]), ARGV[i])
    given = given + 1
  end
end
return given
