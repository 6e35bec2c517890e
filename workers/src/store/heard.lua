-- Takes in what an answer says about a provider. Opens its circuit, keeps it open for longer, or closes it.
-- Repeatable: a repeat may count one failure twice, which at worst opens the circuit one failure early.
--
-- KEYS  1 circuit  2 due:circuit  3 clock
-- ARGV  1 what was heard: 'well', 'failing', 'locked_out' or 'nothing'  2 '1' if it was about the payout that went as a trial
--       3 consecutive failures that open it  4 how long it then stays open, ms  5 the reason code  6 name of the circuit  7 key prefix
-- Returns 'opened', 'stays', 'closed' or ''
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[3]) or 0)
local open, trial = redis.call('HEXISTS', KEYS[1], 'until') == 1, ARGV[2] == '1'
local function again(at)
  redis.call('ZADD', KEYS[2], at, ARGV[6])
  redis.call('PUBLISH', ARGV[7] .. 'wake', 'circuit')
end
local function stay(failing)
  local ends = now + tonumber(ARGV[4])
  redis.call('HSET', KEYS[1], 'until', ends, 'why', ARGV[5])
  redis.call('HDEL', KEYS[1], 'trial')
  if failing then redis.call('HINCRBY', KEYS[1], 'trips', 1) end
  again(ends)
end

if ARGV[1] == 'well' then
  if open and not trial then return '' end
  redis.call('HDEL', KEYS[1], 'until', 'since', 'why', 'trial', 'trips', 'failures')
  if not open then return '' end
  again(now)
  return 'closed'
end
if open then
  -- What was on its way when it opened says nothing new.
  if not trial then return '' end
  stay(ARGV[1] ~= 'nothing')
  return 'stays'
end
if ARGV[1] == 'nothing' then return '' end
local failures = redis.call('HINCRBY', KEYS[1], 'failures', 1)
if ARGV[1] ~= 'locked_out' and failures < tonumber(ARGV[3]) then return '' end
redis.call('HSET', KEYS[1], 'since', now)
stay(true)
return 'opened'
