-- Makes deliveries of one payout to one subscription once more, in their order: the first one goes to the lane, the others wait behind it, and all of them behind what
-- waits already. What is under way, waits, is still to come, or is not as it was seen any more is passed over, so a repeat makes nothing twice.
--
-- KEYS  1 payout  2 what waits in the lane  3 what is under way  4 lanes  5 clock  6 subscription  7 abandoned  8 those of the subscription  9 subscriptions behind the fan-out
-- ARGV  1 payout id  2 subscription  3 channel of wake-ups  4 '1' if they need no order, then of each delivery (sequence, record that was seen or '', record to be)
-- Returns how many there will be
if redis.call('HEXISTS', KEYS[6], 'v') == 0 then return 0 end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[5]) or 0)
local field, unordered, made, due = 'q:' .. ARGV[2], ARGV[4] == '1', 0, false
local queue = redis.call('HGET', KEYS[1], field) or ''
for at = 5, #ARGV, 3 do
  local sequence = ARGV[at]
  local member, record = ARGV[1] .. '/' .. sequence, 'd:' .. ARGV[2] .. ':' .. sequence
  local waits = redis.call('ZSCORE', KEYS[2], member) or redis.call('ZSCORE', KEYS[3], member) or string.find(',' .. queue .. ',', ',' .. sequence .. ',', 1, true)
  local held = redis.call('HMGET', KEYS[1], 'e:' .. sequence, record)
  -- What the fan-out has not come by yet comes in its turn.
  if held[1] and not waits and (held[2] or '') == ARGV[at + 1] and not is_coming(KEYS[1], KEYS[9], ARGV[2], sequence) then
    redis.call('HSET', KEYS[1], record, ARGV[at + 2])
    redis.call('ZREM', KEYS[7], ARGV[2] .. '/' .. member)
    redis.call('ZREM', KEYS[8], member)
    if unordered or queue == '' then
      redis.call('ZADD', KEYS[2], now, member)
      due = true
    end
    if not unordered then queue = queue == '' and sequence or queue .. ',' .. sequence end
    made = made + 1
  end
end
if made > 0 and not unordered then redis.call('HSET', KEYS[1], field, queue) end
if due then
  redis.call('ZADD', KEYS[4], 'LT', now, ARGV[2])
  redis.call('PUBLISH', ARGV[3], 'relay')
end
return made
