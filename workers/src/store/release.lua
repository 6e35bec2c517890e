-- Makes payouts due again that were held at a circuit: a page of them while it is closed, one as a trial while it is half open, none otherwise.
-- And plans when to look at the circuit again. Repeatable.
--
-- KEYS  1 circuit  2 held  3 due:execute  4 due:circuit  5 clock
-- ARGV  1 name of the circuit  2 payouts of a page  3 key prefix  4 how soon to look again for whether a trial has begun, ms
-- Returns how many were released
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[5]) or 0)
local is = redis.call('HMGET', KEYS[1], 'paused', 'until', 'trial', 'freed')
local function again(at) redis.call('ZADD', KEYS[4], at, ARGV[1]) end
local function release(most, since) return release_held(KEYS[2], KEYS[3], ARGV[3], most, since, now) end

redis.call('HDEL', KEYS[1], 'l')
-- Whoever resumes it plans a look.
if is[1] then
  redis.call('ZREM', KEYS[4], ARGV[1])
  return 0
end
if is[2] then
  local blocked = math.max(tonumber(is[2]), tonumber(is[3] or 0))
  if blocked > now then
    again(blocked)
    return 0
  end
  -- A trial is a try like any other: while nobody can reach the provider, the time goes on, but for what was a pause.
  local released = release(1, tonumber(is[4] or 0))
  -- With nobody waiting, the next payout that comes is the trial.
  if released == 0 then redis.call('ZREM', KEYS[4], ARGV[1]) else again(now + tonumber(ARGV[4])) end
  return released
end
local released = release(tonumber(ARGV[2]), now)
if redis.call('EXISTS', KEYS[2]) == 1 then again(now) else redis.call('ZREM', KEYS[4], ARGV[1]) end
return released
