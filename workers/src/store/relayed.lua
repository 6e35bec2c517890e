-- Records tries of deliveries and acknowledges their work, each for itself. Of a payout's events for one subscription the next one enters the lane when
-- the one before has ended. Only the holder of a lease gets through; a repeat answers 'lost', which is harmless: it was recorded.
--
-- KEYS  1 lanes  2 abandoned  3 clock
-- ARGV  1 key prefix  2 lease, ms, of what is handed over  3 widest window, then of each try
--       1 subscription  2 member  3 token  4 delivery record  5 d(one) r(etry) a(bandoned)
--       6 of a failure: due, ms, of a retry; and if the subscriber was at fault, failures until its subscription is held back, the first such wait, ms, the longest, and until when the
--       subscriber itself wants to be left alone, ms, or 0
--       7 whether the caller would take another delivery at once: '1' or '0'
-- Returns of each try { 'committed', 1 if the lane is due earlier than it was, since when it fails, ms, or 0 } and, where one is handed over, what lease_relay.lua returns of it;
--       or { 'lost' }, or { 'failed', why }, which concerns that try alone
local lanes, prefix, widest = KEYS[1], ARGV[1], tonumber(ARGV[3])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[3]) or 0)

local function payout_and_sequence(member)
  local slash = string.find(member, '/', 1, true)
  return prefix .. 'po:' .. string.sub(member, 1, slash - 1), string.sub(member, slash + 1)
end

-- Whether somebody may want once more what was given up: of a payout always; of a bulletin as long as the subscription is there, and is no farewell.
local function can_be_asked_for(subscription, payout)
  if redis.call('HEXISTS', payout, 'rec') == 1 then return true end
  local is = redis.call('HMGET', prefix .. 'sub:' .. subscription, 'v', 'farewell')
  return is[1] and not is[2]
end

-- What is read comes first, and the leases end last, all of a subscription at once: what fails in between is found again when its lease has run out.
local leaving = {}
local function record(subscription, member, token, delivery, outcome, trouble)
  local flying, waiting = prefix .. 'fly:' .. subscription, prefix .. 'wait:' .. subscription
  local left = leaving[flying] or {}
  local leased = not left[member] and redis.call('ZSCORE', flying, member)
  if not leased or tonumber(leased) ~= tonumber(token) then return { 'lost' } end
  local payout, sequence = payout_and_sequence(member)
  local queue, lost = 'q:' .. subscription, 'l:' .. subscription
  local open = redis.call('HGET', payout, queue) or ''
  redis.call('HSET', payout, 'd:' .. subscription .. ':' .. sequence, delivery)
  -- What the subscriber said is kept for so long only (excerpt_trim.lua), by the first of it.
  if string.find(delivery, '"excerpt":"', 1, true) then redis.call('ZADD', prefix .. 'excerpts', 'NX', now, subscription .. '/' .. member) end
  if outcome == 'r' then
    redis.call('HDEL', payout, lost)
    redis.call('ZADD', waiting, string.match(trouble, '^%d+'), member)
  else
    local comma = string.find(open, ',', 1, true)
    -- What came out of order stands in no queue, and is nobody's turn.
    local ordered = string.sub(open, 1, (comma or 0) - 1) == sequence
    if not ordered then
      redis.call('HDEL', payout, lost)
    elseif not comma then
      redis.call('HDEL', payout, queue, lost)
    else
      local rest = string.sub(open, comma + 1)
      redis.call('HDEL', payout, lost)
      redis.call('HSET', payout, queue, rest)
      redis.call('ZADD', waiting, now, string.sub(member, 1, -1 - #sequence) .. string.match(rest, '^[^,]*'))
    end
    if outcome == 'a' and can_be_asked_for(subscription, payout) then
      redis.call('ZADD', KEYS[2], now, subscription .. '/' .. member)
      redis.call('ZADD', prefix .. 'abandoned:' .. subscription, now, member)
    end
  end
  left[member], left[#left + 1] = true, member
  leaving[flying] = left
  return { 'committed', 0, 0 }
end

-- How many deliveries of a subscription may be under way at a time is earned by acknowledgements, and half of it is lost by each failure: a subscriber that hangs keeps next to
-- nobody's turn. Gives that, until when it is left alone, what was told of the last failure, and whether something got through.
local function weigh(key, ended, share, most, until_ms)
  local window, trouble, got_through = share, nil, nil
  for at, outcome in ipairs(ended.outcomes) do
    if outcome == 'd' then
      got_through = true
      -- Whoever has asked to be left alone still is.
      if until_ms <= now then until_ms = 0 end
      if window == 1 then redis.call('HDEL', key, 'fails', 'since', 'warned', 'failed') end
      window = math.min(window + 1, math.max(window, most))
    elseif string.find(ended.troubles[at], ' ', 1, true) then
      trouble = ended.troubles[at]
      until_ms = math.max(until_ms, tonumber(string.match(trouble, '%d+$')))
      window = math.max(1, math.floor(window / 2))
    end
  end
  return window, until_ms, trouble, got_through
end

-- Counts a failure in a row. Gives until when the subscription is held back by it, if it is, and since when it fails.
local function count_failure(key, trouble)
  local most_fails, first, longest = string.match(trouble, '^%d+ (%d+) (%d+) (%d+)')
  local fails, until_ms = redis.call('HINCRBY', key, 'fails', 1), 0
  -- What failed before a long time without any try says nothing about now.
  local last = redis.call('HGET', key, 'failed')
  if not last or now - last > 43200000 then redis.call('HDEL', key, 'since', 'warned') end
  redis.call('HSET', key, 'failed', now)
  redis.call('HSETNX', key, 'since', now)
  if fails >= tonumber(most_fails) then
    until_ms = now + math.min(tonumber(longest), tonumber(first) * 2 ^ math.min(30, fails - most_fails))
  end
  return until_ms, tonumber(redis.call('HGET', key, 'since'))
end

-- Writes what a subscription has earned, behind the gate of lease_relay.lua where it has one. Gives whether it has one now.
local function keep_share(key, gate, earned, window, until_ms)
  if until_ms > 0 or gate and gate[4] then
    redis.call('HSET', key, 'window', 0, 'share', window)
    if until_ms > 0 then redis.call('HSET', key, 'until', until_ms) else redis.call('HDEL', key, 'until') end
    return true
  end
  if window == earned then return gate end
  redis.call('HSET', key, 'window', window)
  if gate then redis.call('HDEL', key, 'until', 'share') end
  return false
end

-- Leases as many of the first that wait as there is room for, to those who take them: the leases that ended make room for the next ones. Says how many.
local function hand_over(subscription, held, takers, heads, room)
  local lease, handed, lost = now + tonumber(ARGV[2]), 0, 'l:' .. subscription
  while handed < room and heads[handed * 2 + 1] and tonumber(heads[handed * 2 + 2]) <= now do
    local member = heads[handed * 2 + 1]
    handed = handed + 1
    redis.call('ZREM', prefix .. 'wait:' .. subscription, member)
    redis.call('ZADD', prefix .. 'fly:' .. subscription, lease, member)
    local payout, sequence = payout_and_sequence(member)
    local kept = redis.call('HMGET', payout, 'e:' .. sequence, 'd:' .. subscription .. ':' .. sequence, lost, 'meta')
    takers[handed][4] = { subscription, held[1] or '', member, lease, tonumber(kept[3] or 0) + 1, kept[1] or '', kept[2] or '', kept[4] or '', 0, held[6] or subscription }
  end
  if handed > 0 then redis.call('ZADD', lanes, 'LT', lease, subscription) end
  return handed
end

-- What follows for a subscription: how much may be under way, what is handed over to those who take it, and when it is its turn.
local function go_on(subscription, ended)
  local flying, waiting, key = prefix .. 'fly:' .. subscription, prefix .. 'wait:' .. subscription, prefix .. 'sub:' .. subscription
  local held = redis.call('HMGET', key, 'v', 'window', 'most', 'ok', 'farewell', 'of')
  local earned, ok = tonumber(held[2] or 4), held[4]
  if held[5] and ended.member then
    -- What was left at a former URL was told, or cannot be: nothing of it stays.
    local payout, sequence = payout_and_sequence(ended.member)
    redis.call('HDEL', payout, 'd:' .. subscription .. ':' .. sequence)
    redis.call('DEL', key)
    held[1] = false
  end
  local gate = earned == 0 and redis.call('HMGET', key, 'paused', 'until', 'share', 'rate')
  -- A late record of a try must not leave anything behind for a subscription that is gone, and what is paused stays as it is.
  if held[1] and not (gate and gate[1]) then
    local share = gate and (gate[2] and 1 or tonumber(gate[3] or 4)) or earned
    local window, until_ms, trouble, got_through = weigh(key, ended, share, tonumber(held[3] or widest), gate and tonumber(gate[2] or 0) or 0)
    -- Whether something gets through: those to whom nothing does have a part of the slots only, and nothing past their lane.
    local works = got_through and '1' or trouble and '0' or ok
    if works ~= ok then
      ok = works
      redis.call('HSET', key, 'ok', ok)
    end
    -- Counted is one that failed alone: of many that were under way when the subscriber stumbled, the last.
    if trouble and not got_through and share == 1 and redis.call('ZCARD', flying) == 0 then
      local back, since = count_failure(key, trouble)
      until_ms, ended.first[3] = math.max(until_ms, back), since
    end
    gate = keep_share(key, gate, earned, window, until_ms)
    earned = window
  end

  local takers = ended.takers
  local heads = redis.call('ZRANGE', waiting, 0, #takers, 'WITHSCORES')
  if not heads[1] then
    if redis.call('ZCARD', flying) == 0 then redis.call('ZREM', lanes, subscription) end
    return
  end
  local handed = 0
  -- Only while nobody's turn has come.
  if ok ~= '0' and not gate and #takers > 0 and tonumber(heads[2]) <= now and redis.call('ZCOUNT', lanes, '-inf', now) == 0 then
    handed = hand_over(subscription, held, takers, heads, math.min(#takers, earned - redis.call('ZCARD', flying)))
  end
  local due = heads[handed * 2 + 2]
  if due and (handed == 0 or handed < #takers) then
    -- A lane whose turn has come is left as it is: whoever leases next comes by.
    due = math.max(tonumber(due), now)
    local sooner = redis.call('ZADD', lanes, 'LT', 'CH', due, subscription) == 1
    if sooner and due <= now then ended.first[2] = 1 end
  end
end

local answers, order, ended = {}, {}, {}
for at = 4, #ARGV, 7 do
  local subscription = ARGV[at]
  local recorded, answer = pcall(record, subscription, ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5])
  if not recorded then answer = { 'failed', tostring(type(answer) == 'table' and answer.err or answer) } end
  answers[#answers + 1] = answer
  if answer[1] == 'committed' then
    local of = ended[subscription]
    if not of then
      of = { outcomes = {}, troubles = {}, takers = {}, first = answer }
      ended[subscription] = of
      order[#order + 1] = subscription
    end
    of.outcomes[#of.outcomes + 1] = ARGV[at + 4]
    if ARGV[at + 4] ~= 'r' then of.member = ARGV[at + 1] end
    of.troubles[#of.outcomes] = ARGV[at + 5]
    if ARGV[at + 6] == '1' then of.takers[#of.takers + 1] = answer end
  end
end
for flying, members in pairs(leaving) do redis.call('ZREM', flying, unpack(members)) end
for _, subscription in ipairs(order) do go_on(subscription, ended[subscription]) end
return answers
