-- Leases up to N due deliveries, in fair turns over the subscriptions that have any: each lane gives at most its share, and never has more
-- under way than its window, so a slow subscriber holds up nobody but itself. Repeatable like lease.lua.
--
-- Of the caller's slots a lane has no more than are free, so that many that hang leave some to the others; and those to which nothing gets through, or has yet ('ok' is not
-- '1'), take no more together than the caller says. A party has no more of either than so many times what is free of it: alone it leaves a rest to whoever comes, and many
-- have equal shares (slots.rs). A lane has no more than its party may take besides.
--
-- KEYS  1 lanes: subscription -> its next turn, ms with fraction  2 clock
-- ARGV  1 N  2 lease, ms  3 key prefix  4 widest window  5 most of N for lanes that are not 'ok'  6 free slots, N among them  7 what a party may have for each slot that is free
--       8 number of lanes that were passed over for their party and have room now, then each; then of each party that may come to its share: name, slots that it has, and those of
--       them for lanes that are not 'ok'
-- Returns { now, head of lanes or '', { party, lane that is passed over for it, … }, { subscription, its version, member, token, times leased, event, delivery, metadata, 1 if the lane is not 'ok', party }, … }
local t = redis.call('TIME')
local fine = t[1] * 1000 + t[2] / 1000 + tonumber(redis.call('GET', KEYS[2]) or 0)
local now = math.floor(fine)
local n, token, prefix, trials, free = tonumber(ARGV[1]), now + tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[5]), tonumber(ARGV[6])
local passed = {}
local out = { now, '', passed }

-- What a party may take besides what it has: one, whatever others have.
local per_free, held, tried = tonumber(ARGV[7]), {}, {}
local function allowance(has, free) return math.max(has and 0 or 1, math.floor((per_free * free - (has or 0)) / (per_free + 1))) end

-- While all that such lanes may take is taken, or all that a party may, they are passed over, many at a time, so that they hide nobody.
local passed_over = trials == 0
local again = tonumber(ARGV[8])
for i = 9 + again, #ARGV, 3 do
  local party, slots, tries = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  held[party], tried[party] = slots, tries > 0 and tries or nil
  passed_over = passed_over or allowance(slots, free) == 0 or allowance(tried[party], trials) == 0
end
local lanes, seen = {}, {}
for i = 9, 8 + again do lanes[#lanes + 1], seen[ARGV[i]] = ARGV[i], true end
for _, subscription in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', fine, 'LIMIT', 0, passed_over and math.max(n, 512) or n)) do
  if not seen[subscription] then lanes[#lanes + 1] = subscription end
end
-- The more there are of them, the longer until they are looked at again.
local pause = passed_over and math.max(100, math.floor(redis.call('ZCOUNT', KEYS[1], '-inf', fine) / 5)) or 0
local share = math.max(1, math.floor(n / math.max(1, #lanes)))
local turns, idle, left = {}, {}, n

-- A subscription with a window of 0 is gated: paused, held back for a while after trouble, or held to a rate. What may be under way, what may begin now, when
-- it may begin again; of a rate, how far apart deliveries are, ms, and when the next one would begin if none went ahead.
local function gate(key)
  local is = redis.call('HMGET', key, 'paused', 'until', 'share', 'rate', 'next', 'most')
  if is[1] then return 0, 0 end
  if is[2] and tonumber(is[2]) > now then return 0, 0, tonumber(is[2]) end
  -- After trouble there is one at a time, until it goes well.
  local window = is[2] and 1 or math.min(tonumber(ARGV[4]), tonumber(is[6] or ARGV[4]), tonumber(is[3] or 4))
  if not is[4] then return window, window end
  -- As many may go ahead of their time as belong to a tenth of a second.
  local gap, first = 1000 / tonumber(is[4]), math.max(now, tonumber(is[5] or 0))
  return window, math.max(0, math.floor((now + 100 - first) / gap) + 1), nil, gap, first
end

-- An event that is not kept any more: whoever waits behind it in the payout's queue has its turn. Says whether there is one.
local function pass_by(subscription, key, sequence, wait, member)
  local queue = redis.call('HGET', key, 'q:' .. subscription) or ''
  local first, rest = string.match(queue, '^(%d+),?(.*)$')
  if first ~= sequence then return false end
  redis.call('HDEL', key, 'l:' .. subscription, 'q:' .. subscription)
  if rest == '' then return false end
  redis.call('HSET', key, 'q:' .. subscription, rest)
  redis.call('ZADD', wait, now, string.sub(member, 1, -1 - #sequence) .. string.match(rest, '^%d+'))
  return true
end

local function take_turn(subscription)
  local is = redis.call('HMGET', prefix .. 'sub:' .. subscription, 'v', 'window', 'ok', 'of')
  -- One that is gone is nobody's.
  local party, on_trial = is[4] or subscription, is[3] ~= '1'
  local mine = allowance(held[party], free)
  if mine == 0 then
    turns[#turns + 1] = string.format('%.3f', fine + pause)
    turns[#turns + 1] = subscription
    -- The caller names it again once its party has room.
    passed[#passed + 1] = party
    passed[#passed + 1] = subscription
    return
  end
  local wait, flying = prefix .. 'wait:' .. subscription, prefix .. 'fly:' .. subscription
  local version, window = is[1] or '', math.min(tonumber(ARGV[4]), tonumber(is[2] or 4))
  local may, opens, gap, first = math.huge, nil, nil, nil
  if window == 0 then window, may, opens, gap, first = gate(prefix .. 'sub:' .. subscription) end
  local lease = tonumber(redis.call('ZRANGE', flying, 0, 0, 'WITHSCORES')[2])
  if lease and lease <= now then
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', flying, '-inf', now, 'LIMIT', 0, 100)) do
      redis.call('ZREM', flying, member)
      redis.call('ZADD', wait, now, member)
      -- Its worker is lost, or was too late. What is counted is how often that happened, so that a lease that ends well writes nothing.
      redis.call('HINCRBY', prefix .. 'po:' .. string.sub(member, 1, string.find(member, '/', 1, true) - 1), 'l:' .. subscription, 1)
    end
    lease = tonumber(redis.call('ZRANGE', flying, 0, 0, 'WITHSCORES')[2])
  end
  local room = math.min(may, math.max(0, math.min(window, mine) - (lease and redis.call('ZCARD', flying) or 0)))
  local tries = on_trial and math.min(trials, allowance(tried[party], trials))
  if tries and room > tries then room, opens = tries, math.max(opens or 0, now + pause) end
  local most = math.min(room, share, left)
  -- One more than is taken: the next head.
  local waiting = redis.call('ZRANGE', wait, 0, math.max(0, most), 'WITHSCORES')
  local members, leases, head = {}, {}, nil
  for i = 1, #waiting, 2 do
    local member, due = waiting[i], tonumber(waiting[i + 1])
    if due > now or #members >= most then
      head = due
      break
    end
    members[#members + 1] = member
  end
  local taken = 0
  if #members > 0 then
    redis.call('ZREM', wait, unpack(members))
    for _, member in ipairs(members) do
      local slash = string.find(member, '/', 1, true)
      local key, sequence = prefix .. 'po:' .. string.sub(member, 1, slash - 1), string.sub(member, slash + 1)
      local kept = redis.call('HMGET', key, 'e:' .. sequence, 'd:' .. subscription .. ':' .. sequence, 'l:' .. subscription, 'meta')
      if kept[1] then
        taken = taken + 1
        leases[#leases + 1] = token
        leases[#leases + 1] = member
        out[#out + 1] = { subscription, version, member, token, tonumber(kept[3] or 0) + 1, kept[1], kept[2] or '', kept[4] or '', on_trial and 1 or 0, party }
      elseif pass_by(subscription, key, sequence, wait, member) then
        head = now
      end
    end
  end
  if taken > 0 then
    left, free, held[party] = left - taken, free - taken, (held[party] or 0) + taken
    if on_trial then trials, tried[party] = trials - taken, (tried[party] or 0) + taken end
    redis.call('ZADD', flying, unpack(leases))
    room = room - taken
    lease = math.min(lease or token, token)
  end
  if gap then
    first = first + taken * gap
    if taken > 0 then redis.call('HSET', prefix .. 'sub:' .. subscription, 'next', string.format('%.3f', first)) end
    opens = may <= taken and math.max(opens or 0, first - 100) or opens
  end
  -- The next turn: when something is due and there is room, behind those not yet served; else when a lease ends (an acknowledgement comes earlier).
  local turn = lease
  if room > 0 and head then
    turn = math.min(math.max(head, fine), lease or math.huge)
  elseif opens and head then
    turn = math.min(math.max(head, opens), lease or math.huge)
  end
  if turn then
    turns[#turns + 1] = string.format('%.3f', turn)
    turns[#turns + 1] = subscription
  else
    idle[#idle + 1] = subscription
  end
end

for _, subscription in ipairs(lanes) do
  if left == 0 then break end
  take_turn(subscription)
end
if #turns > 0 then redis.call('ZADD', KEYS[1], unpack(turns)) end
if #idle > 0 then redis.call('ZREM', KEYS[1], unpack(idle)) end
local head = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if head[2] then out[2] = math.floor(tonumber(head[2])) end
return out
