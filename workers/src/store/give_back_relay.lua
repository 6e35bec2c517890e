-- Makes leased deliveries due again, those that are still leased under the given token. Repeatable.
--
-- KEYS  1 lanes  2 clock   ARGV  1 wait, ms  2 key prefix  then (subscription, member, token) each
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[2]) or 0)
local due, given = now + tonumber(ARGV[1]), 0
for i = 3, #ARGV, 3 do
  local wait, flying = ARGV[2] .. 'wait:' .. ARGV[i], ARGV[2] .. 'fly:' .. ARGV[i]
  local leased = redis.call('ZSCORE', flying, ARGV[i + 1])
  if leased and tonumber(leased) == tonumber(ARGV[i + 2]) then
    redis.call('ZREM', flying, ARGV[i + 1])
    redis.call('ZADD', wait, due, ARGV[i + 1])
    -- Given back at once means that no handler had begun.
    if due > now then
      local payout = string.sub(ARGV[i + 1], 1, string.find(ARGV[i + 1], '/', 1, true) - 1)
      redis.call('HINCRBY', ARGV[2] .. 'po:' .. payout, 'l:' .. ARGV[i], 1)
    end
    redis.call('ZADD', KEYS[1], 'LT', due, ARGV[i])
    given = given + 1
  end
end
return given
