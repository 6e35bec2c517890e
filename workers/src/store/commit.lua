-- Commits one step of one payout, whole or not at all: version check, idempotency claim, record, observation, ledger, work, events, deliveries.
-- Lua has no rollback, so everything that can refuse comes first and everything that writes comes after it. A repeat answers 'done'.
--
-- KEYS  those that nearly every commit touches, for each that is passed costs time; the others have names by the prefix:
--       1 payout  2 due:execute  3 subscriptions of the party  4 lanes  5 ledger  6 list  7 open  8 clock  9 account  10 party; where a schedule opens it:
--       11 due:schedule  12 overdue
-- ARGV  1 version decided on ('0' opens)  2 commit token  3 record  4 observation  5 permit to dispatch: 'x' or 'p' and the lease token, or 'g' or 'r'
--       and the lease token, a space and the id of the group that is sent or sent again, or ''
--       6 next work: x(ecute) p(oll) k(eep) n(othing)  7 its due time, ms  8 fingerprint, or ''  9 sealed beneficiary, or ''
--       10 sealed request, or ''  11 payout id  12 key prefix  13 now, ms, for lists  14 '1' while the payout is open  15 new version
--       16 deliveries that the caller would take at once  17 their lease, ms  18 widest window of a subscription
--       19 name of the provider's circuit, or ''  20 name of the state
--       21 when the payout was asked for, ms  22 metadata, or ''
--       23 what it passes when it is opened, or its amount fixed, as JSON (gate.lua), or ''
--       24 '', or what is asked of the account beside the entries: the version that was seen of it, a space, and to fix the amount of a whole balance what
--       must be available, exactly; to open a payout for a business day what must be available at least, a space, the day, a space, and the account's
--       next record, or nothing
--       25 number of entries, then (from, to, minor) each; number of events, then (sequence, type, stored text) each; where a schedule opens it: version
--       of the account decided on, its new version, its record, its name in due:schedule, how long until the next look, ms
-- Returns { 'committed', epoch, whether to look first, how the circuit let it pass, token, { subscription, its version, sequence } for each delivery that was handed over, … }
local key, id, prefix = KEYS[1], ARGV[11], ARGV[12]
local opening = ARGV[1] == '0'
local held = redis.call('HMGET', key, 'v', 'token', 'fp', 'held', 'st', 'to', 'lim')
local version, token, fingerprint, held_at, was, to, shares = unpack(held, 1, 7)
local gate, name = ARGV[23] ~= '' and cjson.decode(ARGV[23]), string.sub(KEYS[10], #prefix + 4)

if token == ARGV[2] then return { 'done' } end
if opening then
  -- Of one that was trimmed only the beginning is left.
  if fingerprint and fingerprint ~= string.sub(ARGV[8], 1, #fingerprint) then return { 'conflict' } end
  if fingerprint then
    local record = redis.call('HMGET', key, 'rec', 'meta')
    return { 'exists', record[1] or '', record[2] or '' }
  end
  if redis.call('HEXISTS', KEYS[10], 'off') == 1 then return { 'inactive' } end
  if KEYS[11] then
    if redis.call('HGET', KEYS[9], 'v') ~= ARGV[#ARGV - 4] then return { 'stale' } end
    if redis.call('EXISTS', prefix .. 'frozen') == 1 then return { 'frozen' } end
  end
  local why = gate and stopped(gate, prefix)
  if why then return why end
else
  if not version then return { 'missing' } end
  if version ~= ARGV[1] then return { 'stale' } end
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[8]) or 0)

local seen, needed, day, record = string.match(ARGV[24], '^(%d+) (%-?%d+) ?(%S*) ?(.*)$')
if opening or seen or ARGV[5] ~= '' then
  local account = redis.call('HMGET', KEYS[9], 'funding', 'status', 'fault', 'v', 'day')
  if not opening and account[3] then return { 'frozen' } end
  if seen and account[4] ~= seen then return { 'changed' } end
  if seen and not opening then
    -- Told, so that whoever decides again need not ask: on a busy account that would take too long each time.
    local available = redis.call('HGET', KEYS[5], 'available') or '0'
    if available ~= needed then return { 'moved', available } end
    local beyond = gate and is_beyond(gate, 'reject', prefix, now)
    if beyond then return { 'refused', 'limit_exceeded', beyond } end
  end
  if opening and seen and account[5] then
    -- One payout of a balance on a day, unless the one before has ended without being paid.
    local taken, by = string.match(account[5], '^(%S+) (%S+)$')
    local is = taken == day and redis.call('HGET', prefix .. 'po:' .. by, 'st')
    if is and is ~= 'canceled' and is ~= 'rejected' and is ~= 'failed' then return { 'taken' } end
  end
  if opening and (seen or ARGV[25] ~= '0') then
    local refusal = account[2] == 'disabled' and 'account_disabled'
    if account[1] == 'balance' and tonumber(redis.call('HGET', KEYS[5], 'available') or 0) < tonumber(needed or ARGV[28]) then
      refusal = refusal or 'insufficient_funds'
    end
    local beyond = not refusal and gate and is_beyond(gate, 'reject', prefix, now)
    if beyond then refusal = 'limit_exceeded' end
    if refusal then
      -- What is missing may be what the store has lost, and then the payout may have been sent before: nobody may say that it was not.
      local suspect = redis.call('EXISTS', prefix .. 'frozen') == 1 or tonumber(redis.call('GET', prefix .. 'look-first') or 0) > now
      return suspect and { 'undecided' } or { 'refused', refusal, beyond or '' }
    end
    local free = gate and ARGV[20] ~= 'awaiting_approval'
    local met = free and (gate.approve_new and is_new(gate, prefix, name, now) and '' or is_beyond(gate, 'approve', prefix, now))
    if met then return { 'approve', met } end
  end
end

local epoch, passed, kind, permit, group = 0, '', nil, nil, nil
if ARGV[5] ~= '' then
  kind, permit, group = string.match(ARGV[5], '^(%a)(%d+) ?(.*)$')
  local lane, lease = kind == 'x' and KEYS[2] or kind == 'p' and prefix .. 'due:poll' or prefix .. 'due:group', tonumber(permit)
  local leased = redis.call('ZSCORE', lane, group ~= '' and group or id)
  if not leased or tonumber(leased) ~= lease then return { 'lost' } end
  if redis.call('EXISTS', prefix .. 'frozen') == 1 then return { 'frozen' } end
  -- Set aside, so that it costs nobody anything until it is released. What may have been sent before keeps its polls.
  local function set_aside(at)
    if kind ~= 'x' then return end
    redis.call('ZREM', KEYS[2], id)
    redis.call('ZADD', prefix .. 'held:' .. at, now, id)
    redis.call('HSET', key, 'held', at, 'l', '0')
  end
  if redis.call('HEXISTS', prefix .. 'stop:' .. name, 'frozen') == 1 then
    set_aside('party:' .. name)
    return { 'held', 'party_frozen' }
  end
  local circuit = prefix .. 'circuit:' .. ARGV[19]
  local is = redis.call('HMGET', circuit, 'paused', 'until', 'trial', 'failures', 'trips', 'last', 'tries')
  local tries = group ~= '' and group or id
  -- The payouts of a group are one trial.
  local blocked = is[2] and math.max(tonumber(is[2]), is[7] ~= tries and tonumber(is[3] or 0) or 0)
  if is[1] or blocked and blocked > now then
    set_aside(ARGV[19])
    if kind == 'x' and not is[1] then redis.call('ZADD', prefix .. 'due:circuit', 'NX', blocked, ARGV[19]) end
    return { 'held', is[1] and 'provider_paused' or 'circuit_open' }
  end
  if blocked then
    -- Half open: one at a time. Its lease bounds the trial.
    redis.call('HSET', circuit, 'trial', lease, 'tries', tries)
    passed = is[5] or '0'
  elseif is[4] then
    passed = 'counting'
  end
  if tonumber(is[6] or 0) < lease then redis.call('HSET', circuit, 'last', lease) end
  epoch = redis.call('INCR', prefix .. 'epoch')
  local account = to and string.match(to, '^%x+')
  if account then redis.call('ZADD', prefix .. 'known:' .. name, now, account) end
end

local fields = { 'v', ARGV[15], 'token', ARGV[2], 'rec', ARGV[3], 'o:' .. ARGV[15], ARGV[4], 'l', '0', 'st', ARGV[20] }
local function field(name, value)
  if value ~= '' then
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
end
field('fp', ARGV[8])
field('sec', ARGV[9])
field('req', ARGV[10])
field('meta', ARGV[22])
if gate then
  if opening then field('to', pass(gate, id, prefix, name, now, ARGV[20] == 'awaiting_approval')) end
  field('lim', (shares or '') .. count(gate, prefix, now))
elseif not opening and was ~= ARGV[20] then
  follow(id, to, shares, was, ARGV[20], prefix)
end
if opening and seen then
  redis.call('HSET', KEYS[9], 'day', day .. ' ' .. id)
  if record ~= '' then
    redis.call('HSET', KEYS[9], 'v', seen + 1, 'rec', record)
    -- Its schedule has ended, for that is what changes.
    local account = string.match(KEYS[9], 'account:(.+)$')
    for _, index in ipairs({ 'schedules', 'due:schedule', 'overdue' }) do redis.call('ZREM', prefix .. index, account) end
  end
end

local at = 25
local entries = tonumber(ARGV[at])
at = at + 1
for _ = 1, entries do
  -- What is now no more than this entry was nothing before: the ledger may be new.
  if redis.call('HINCRBY', KEYS[5], ARGV[at], '-' .. ARGV[at + 2]) == -tonumber(ARGV[at + 2]) then
    redis.call('SADD', prefix .. 'accounts', KEYS[5])
    redis.call('SADD', prefix .. 'currencies:' .. name, string.sub(KEYS[5], -3))
  end
  redis.call('HINCRBY', KEYS[5], ARGV[at + 1], ARGV[at + 2])
  at = at + 3
end

local function wake(lane) redis.call('PUBLISH', prefix .. 'wake', lane) end
local function work(due, lane, score)
  redis.call('ZADD', due, score, id)
  -- No lane sleeps longer than a minute.
  if tonumber(score) <= now + 60000 and redis.call('ZRANGE', due, 0, 0)[1] == id then wake(lane) end
end
local function leave(index) if not opening then redis.call('ZREM', index, id) end end
if held_at and (ARGV[6] ~= 'k' or kind) then
  leave(prefix .. 'held:' .. held_at)
  redis.call('HDEL', key, 'held')
end
if ARGV[6] == 'x' then
  leave(prefix .. 'due:poll')
  work(KEYS[2], 'execute', ARGV[7])
elseif ARGV[6] == 'p' then
  leave(KEYS[2])
  work(prefix .. 'due:poll', 'poll', ARGV[7])
elseif kind == 'g' then
  -- Whoever sends the group may die: then the payout is presumed sent when the group's lease ends.
  redis.call('ZADD', KEYS[2], permit, id)
elseif ARGV[6] == 'n' then
  leave(KEYS[2])
  leave(prefix .. 'due:poll')
end

if opening then redis.call('ZADD', KEYS[6], ARGV[13], id) end
if ARGV[14] == '1' then
  redis.call('ZADD', KEYS[7], 'NX', ARGV[13], id)
  leave(prefix .. 'ended')
else
  leave(KEYS[7])
  redis.call('ZADD', prefix .. 'ended', ARGV[13], id)
end

-- Whether a subscription wants an event, and whether without waiting for those before it. Most say in a word what they want; who asks for more, as JSON.
local function wants(filter, kind)
  if string.byte(filter) ~= 123 then
    return filter == '*' or string.find(filter, ',' .. kind .. ',', 1, true) or string.find(filter, ',' .. string.match(kind, '^[^.]*') .. '.*,', 1, true)
  end
  local asks = cjson.decode(filter)
  if next(asks.metadata) then
    local text = ARGV[22] ~= '' and ARGV[22] or not opening and redis.call('HGET', key, 'meta') or '{}'
    local read, metadata = pcall(cjson.decode, text)
    -- What cannot be read is rather told too much.
    for name, value in pairs(read and asks.metadata or {}) do
      if metadata[name] ~= value then return false end
    end
  end
  return wants(asks.kinds, kind), asks.unordered, asks.feed
end

local events = tonumber(ARGV[at])
at = at + 1
local room, lease, handed = tonumber(ARGV[16]), now + tonumber(ARGV[17]), {}
if events > 0 then
  local subscriptions = redis.call('HGETALL', KEYS[3])
  local waiting = {}
  -- Only while nobody's turn has come: a lane that waits goes before what is new.
  -- Numbers are written out once: as an argument of a call, each costs its conversion.
  local at_once, leased_until = string.format('%d', now), string.format('%d', lease)
  if room > 0 and redis.call('ZCOUNT', KEYS[4], '-inf', at_once) > 0 then room = 0 end
  for _ = 1, events do
    local sequence, kind = ARGV[at], ARGV[at + 1]
    field('e:' .. sequence, ARGV[at + 2])
    at = at + 3
    for i = 1, #subscriptions, 2 do
      local subscription, filter = subscriptions[i], subscriptions[i + 1]
      local wanted, unordered, feed = filter == '*', false, false
      if not wanted then wanted, unordered, feed = wants(filter, kind) end
      if feed then
        redis.call('XADD', prefix .. 'feed:' .. name, '*', kind, id .. '/' .. sequence)
      elseif wanted then
        -- The deliveries of one payout to one subscription queue up here: only the first of them is in the lane.
        local queue = 'q:' .. subscription
        local tail = unordered and '' or waiting[subscription] or not opening and redis.call('HGET', key, queue) or ''
        if tail == '' then
          local member, flying = id .. '/' .. sequence, prefix .. 'fly:' .. subscription
          local is = room > 0 and redis.call('HMGET', prefix .. 'sub:' .. subscription, 'v', 'window')
          local hand_over = is and redis.call('ZCARD', flying) < math.min(tonumber(ARGV[18]), tonumber(is[2] or 4))
          local due = hand_over and leased_until or at_once
          redis.call('ZADD', hand_over and flying or prefix .. 'wait:' .. subscription, due, member)
          local sooner = redis.call('ZADD', KEYS[4], 'LT', 'CH', due, subscription) == 1
          if hand_over then
            room = room - 1
            handed[#handed + 1] = { subscription, is[1] or '', sequence }
          elseif sooner then
            wake('relay')
          end
          if not unordered then waiting[subscription] = sequence end
        else
          waiting[subscription] = tail .. ',' .. sequence
        end
      end
    end
  end
  for subscription, queue in pairs(waiting) do field('q:' .. subscription, queue) end
end
redis.call('HSET', key, unpack(fields))
if KEYS[11] then come_to(KEYS[9], KEYS[11], KEYS[12], now, unpack(ARGV, #ARGV - 3)) end
return { 'committed', epoch, ARGV[5] ~= '' and tonumber(redis.call('GET', prefix .. 'look-first') or 0) > tonumber(ARGV[21]) and 1 or 0, passed, lease, unpack(handed) }
