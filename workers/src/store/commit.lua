-- Commits steps of payouts, each for itself, and each whole or not at all: version check, idempotency claim, record, observation, ledger, work, events,
-- deliveries. Lua has no rollback, so everything that can refuse comes first and everything that writes comes after it. A repeat answers 'done'.
--
-- KEYS  1 clock  2 lanes  3 open  4 due:execute, then the payout of each step. Each that is passed costs time: the others have names by the prefix
-- ARGV  1 key prefix  2 lease, ms, of deliveries that are handed over  3 widest window of a subscription, then of each step the number of its values, and
--       1 version decided on ('0' opens)  2 commit token  3 record  4 observation  5 permit to dispatch: 'x' or 'p' and the lease token, or 'g' or 'r'
--       and the lease token, a space and the id of the group that is sent or sent again, or ''
--       6 next work: x(ecute) p(oll) k(eep) n(othing)  7 its due time, ms  8 fingerprint, or ''  9 sealed beneficiary, or ''
--       10 sealed request, or ''  11 payout id  12 now, ms, for lists  13 '1' while the payout is open  14 new version
--       15 name of the provider's circuit, or ''  16 name of the state
--       17 when the payout was asked for, ms  18 metadata, or ''
--       19 who gets it, if it has something to pass when it is opened, or its amount fixed, or ''  20 what that is, as JSON, or '' (both: gate.lua)
--       21 '', or what is asked of the account beside the entries: the version that was seen of it, a space, and to fix the amount of a whole balance what
--       must be available, exactly; to open a payout for a business day what must be available at least, a space, the day, a space, and the account's
--       next record, or nothing
--       22 deliveries that the caller would take at once
--       23 '', or where a schedule opens it: version of the account decided on, its new version, how long until the next look, ms, its name in
--       due:schedule, what must be available at least, and its record, with a space between each
--       24 name of the account: party, mode and currency, with a colon between each
--       25 number of entries, then (from, to, minor) each; number of events, then (sequence, type, stored text) each
-- Returns of each step { 'committed', epoch, whether to look first, how the circuit let it pass, token, and of each delivery that was handed over its
-- subscription, that one's version, and the sequence, … }, or a word of why not, and what belongs to it; 'failed' of a step among others that met an error
local lanes, open, due_execute, prefix, widest = KEYS[2], KEYS[3], KEYS[4], ARGV[1], tonumber(ARGV[3])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[1]) or 0)
-- Numbers are written out once: as an argument of a call, each costs its conversion.
local lease = now + tonumber(ARGV[2])
local at_once, leased_until = string.format('%d', now), string.format('%d', lease)

-- What steps of one call have in common is read once; who writes it forgets it.
local kept = {}
local function once(command, key, ...)
  local is = kept[key]
  if not is then
    is = redis.call(command, key, ...)
    kept[key] = is
  end
  return is
end

-- The keys of an account and its party that nearly every step touches.
local named = {}
local function names_of(account)
  local names = named[account]
  if not names then
    local party = string.match(account, '^(.*):')
    names = {
      party = party,
      subscriptions = prefix .. 'subs:' .. party,
      list = prefix .. 'list:' .. party,
      record = prefix .. 'pa:' .. party,
      account = prefix .. 'account:' .. account,
      ledger = prefix .. 'acct:' .. account,
    }
    named[account] = names
  end
  return names
end

-- Many payouts have the same to pass.
local questions = {}
local function question_of(text)
  questions[text] = questions[text] or cjson.decode(text)
  return questions[text]
end

-- What enters a sorted set enters it at the end, together with what other steps put there; of a step that fails, nothing does. No step looks there for what
-- another one of the same call has put: it would be of another payout.
local pending, order, trail, wakes = {}, {}, {}, {}
local function put(key, score, member, only)
  local set = pending[key]
  if not set then
    set = { key, only }
    pending[key], order[#order + 1] = set, set
  end
  local at = #set
  set[at + 1], set[at + 2] = score, member
  trail[#trail + 1] = set
end

-- What was put since the trail was that long.
local function take_back(length)
  for _ = length + 1, #trail do
    local set = table.remove(trail)
    table.remove(set)
    table.remove(set)
  end
end

-- What steps move in a ledger is summed up, too. But what is first moved in an account of it is written at once: who meets an error there fails before anything of it
-- is written, and what is summed after that cannot fail any more, because the account is a number that is far from the largest. Of a step that fails, nothing is summed.
local moved, moving, moves = {}, {}, 0
local function settle_ledger(ledger)
  for account, minor in pairs(moved[ledger] or {}) do
    if minor ~= 0 then redis.call('HINCRBY', ledger, account, string.format('%.0f', minor)) end
    moved[ledger][account] = 0
  end
end

-- Says what there is then, if it is written at once.
local function move(ledger, account, minor)
  local accounts = moved[ledger]
  if not accounts then
    accounts = {}
    moved[ledger] = accounts
  end
  if not accounts[account] then
    local stands = redis.call('HINCRBY', ledger, account, string.format('%.0f', minor))
    if math.abs(stands) < 2 ^ 62 then accounts[account] = 0 end
    return stands
  end
  moving[moves + 1], moving[moves + 2], moving[moves + 3] = ledger, account, minor
  moves = moves + 3
end

local function sum_up()
  for at = 1, moves, 3 do
    local ledger, account = moving[at], moving[at + 1]
    local sum = moved[ledger][account] + moving[at + 2]
    moved[ledger][account] = sum
    -- Numbers are exact up to 2^53.
    if math.abs(sum) > 2 ^ 52 then settle_ledger(ledger) end
  end
end

local function available_in(ledger)
  settle_ledger(ledger)
  return redis.call('HGET', ledger, 'available') or '0'
end

local function wake(lane) redis.call('PUBLISH', prefix .. 'wake', lane) end

local function settle_pending()
  for _, set in ipairs(order) do
    if #set > 2 then redis.call('ZADD', unpack(set)) end
  end
  for due, lane in pairs(wakes) do
    local head, set = redis.call('ZRANGE', due, 0, 0)[1], pending[due] or {}
    for at = 3, #set, 2 do
      if set[at] == head then
        wake(lane)
        break
      end
    end
  end
end

-- A lane whose turn is no later already stays as it is.
local turns = {}
local function bring_forward(subscription, due, text)
  if turns[subscription] and turns[subscription] <= due then return false end
  turns[subscription] = due
  return redis.call('ZADD', lanes, 'LT', 'CH', text, subscription) == 1
end

-- Whether the turn of any subscription has come: such a lane goes before what is new.
local function is_anyones_turn()
  if not kept.turn then kept.turn = redis.call('ZCOUNT', lanes, '-inf', at_once) > 0 and 'yes' or 'no' end
  return kept.turn == 'yes'
end

-- Version of a subscription, and how many more of its deliveries may be under way: none past its lane while nothing gets through to it.
local function share_of(subscription, flying)
  local share = kept[flying]
  if not share then
    local is = redis.call('HMGET', prefix .. 'sub:' .. subscription, 'v', 'window', 'ok')
    share = { version = is[1] or '', left = is[3] ~= '0' and math.min(widest, tonumber(is[2] or 4)) - redis.call('ZCARD', flying) or 0 }
    kept[flying] = share
  end
  return share
end

-- What is written of a payout; the table is used again, for it costs time to grow.
local fields = {}

-- The step's key and its values: see above.
local function commit(key, value)
  local id, names, whom = value[11], names_of(value[24]), value[19]
  local name, ledger, account_key = names.party, names.ledger, names.account
  local opening = value[1] == '0'
  local token, fingerprint, version, held_at, was, to, shares, own
  if opening then
    token, fingerprint = unpack(redis.call('HMGET', key, 'token', 'fp'), 1, 2)
  else
    token, version, held_at, was, to, shares, own = unpack(redis.call('HMGET', key, 'token', 'v', 'held', 'st', 'to', 'lim', 'own'), 1, 7)
  end
  local advance, advanced, look_again, due_as, least, advanced_record = string.match(value[23], '^(%d+) (%d+) (%d+) (%S+) (%-?%d+) (.*)$')
  local gate = whom ~= '' and question_of(value[20])

  if token == value[2] then return { 'done' } end
  if opening then
    -- Of one that was trimmed only the beginning is left, and elsewhere (tombstones.lua).
    if not fingerprint then
      kept.tombstones = kept.tombstones or tombstones(prefix)
      fingerprint = tombstone(prefix, id, kept.tombstones)
    end
    if fingerprint and fingerprint ~= string.sub(value[8], 1, #fingerprint) then return { 'conflict' } end
    if fingerprint then
      local record = redis.call('HMGET', key, 'rec', 'meta')
      return { 'exists', record[1] or '', record[2] or '' }
    end
    if once('HEXISTS', names.record, 'off') == 1 then return { 'inactive' } end
    if advance then
      if redis.call('HGET', account_key, 'v') ~= advance then return { 'stale' } end
      if redis.call('EXISTS', prefix .. 'frozen') == 1 then return { 'frozen' } end
    end
    local why = gate and stopped(gate, whom, prefix)
    if why then return why end
  else
    if not version then return { 'missing' } end
    if version ~= value[1] then return { 'stale' } end
  end
  local seen, needed, day, record = string.match(value[21], '^(%d+) (%-?%d+) ?(%S*) ?(.*)$')
  if opening or seen or value[5] ~= '' then
    if seen then kept[account_key] = nil end
    local account = once('HMGET', account_key, 'funding', 'status', 'fault', 'v', 'day')
    if not opening and account[3] then return { 'frozen' } end
    if seen and account[4] ~= seen then return { 'changed' } end
    -- Who has the money for a payout is decided when it is taken, and stays so whoever funds the account afterwards.
    if opening then own = account[1] == 'balance' end
    if seen and not opening then
      -- Told, so that whoever decides again need not ask: on a busy account that would take too long each time.
      local available = available_in(ledger)
      if available ~= needed then return { 'moved', available } end
      local beyond = gate and is_beyond(gate, 'reject', prefix, now)
      if beyond then return { 'refused', 'limit_exceeded', beyond } end
    end
    if opening and seen and account[5] then
      -- One payout of a balance on a day, unless the one before has ended without being paid. Whoever asks for an earlier day has a clock that is behind, and
      -- nobody knows any more who had that one.
      local taken, by = string.match(account[5], '^(%S+) (%S+)$')
      local is = taken >= day and redis.call('HGET', prefix .. 'po:' .. by, 'st')
      if is and is ~= 'canceled' and is ~= 'rejected' and is ~= 'failed' then return { 'taken' } end
    end
    if opening and (seen or value[25] ~= '0') then
      local refusal = account[2] == 'disabled' and 'account_disabled'
      if account[1] == 'balance' and tonumber(available_in(ledger)) < math.max(tonumber(needed or value[28]), tonumber(least or needed or value[28])) then
        refusal = refusal or 'insufficient_funds'
      end
      local beyond = not refusal and gate and is_beyond(gate, 'reject', prefix, now)
      if beyond then refusal = 'limit_exceeded' end
      if refusal then
        -- What is missing may be what the store has lost, and then the payout may have been sent before: nobody may say that it was not.
        local suspect = redis.call('EXISTS', prefix .. 'frozen') == 1 or tonumber(redis.call('GET', prefix .. 'look-first') or 0) > now
        return suspect and { 'undecided' } or { 'refused', refusal, beyond or '' }
      end
      local free = gate and value[16] ~= 'awaiting_approval'
      local met = free and (gate.approve_new and is_new(gate, whom, prefix, name, now) and '' or is_beyond(gate, 'approve', prefix, now))
      if met then return { 'approve', met } end
    end
  end

  local epoch, passed, kind, permit, group = 0, '', nil, nil, nil
  if value[5] ~= '' then
    kind, permit, group = string.match(value[5], '^(%a)(%d+) ?(.*)$')
    local lane, lease = kind == 'x' and due_execute or kind == 'p' and prefix .. 'due:poll' or prefix .. 'due:group', tonumber(permit)
    local leased = redis.call('ZSCORE', lane, group ~= '' and group or id)
    -- Of a lease that has ended nobody knows who comes next, although nobody has come yet.
    if not leased or tonumber(leased) ~= lease or lease <= now then return { 'lost' } end
    if redis.call('EXISTS', prefix .. 'frozen') == 1 then return { 'frozen' } end
    -- Set aside, so that it costs nobody anything until it is released. What may have been sent before keeps its polls.
    local function set_aside(at)
      if kind ~= 'x' then return end
      redis.call('ZREM', due_execute, id)
      redis.call('ZADD', prefix .. 'held:' .. at, now, id)
      redis.call('HSET', key, 'held', at, 'l', '0')
    end
    if redis.call('HEXISTS', prefix .. 'stop:' .. name, 'frozen') == 1 then
      set_aside('party:' .. name)
      return { 'held', 'party_frozen' }
    end
    local circuit = prefix .. 'circuit:' .. value[15]
    local is = redis.call('HMGET', circuit, 'paused', 'until', 'trial', 'failures', 'trips', 'last', 'tries')
    local tries = group ~= '' and group or id
    -- The payouts of a group are one trial.
    local blocked = is[2] and math.max(tonumber(is[2]), is[7] ~= tries and tonumber(is[3] or 0) or 0)
    if is[1] or blocked and blocked > now then
      set_aside(value[15])
      if kind == 'x' and not is[1] then redis.call('ZADD', prefix .. 'due:circuit', 'NX', blocked, value[15]) end
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

  local written = 0
  local function field(name, value)
    if value ~= '' then
      fields[written + 1], fields[written + 2] = name, value
      written = written + 2
    end
  end
  field('v', value[14])
  field('token', value[2])
  field('rec', value[3])
  field('o:' .. value[14], value[4])
  field('st', value[16])
  if not opening then field('l', '0') end
  field('fp', value[8])
  field('sec', value[9])
  field('req', value[10])
  field('meta', value[18])
  if gate then
    if opening then field('to', pass(gate, whom, id, prefix, name, now, value[16] == 'awaiting_approval')) end
    field('lim', (shares or '') .. count(gate, prefix, now))
  elseif not opening and was ~= value[16] then
    follow(id, to, shares, was, value[16], prefix)
  end
  if opening and seen then
    kept[account_key] = nil
    redis.call('HSET', account_key, 'day', day .. ' ' .. id)
    if record ~= '' then
      redis.call('HSET', account_key, 'v', seen + 1, 'rec', record)
      -- Its schedule has ended, for that is what changes.
      local account = string.match(account_key, 'account:(.+)$')
      for _, index in ipairs({ 'schedules', 'due:schedule', 'overdue' }) do redis.call('ZREM', prefix .. index, account) end
    end
  end

  local entries, at = tonumber(value[25]), 26
  if opening and own then field('own', '1') end
  local available = own and 'available' or 'clearing'
  for _ = 1, entries do
    local from, to, minor = value[at], value[at + 1], tonumber(value[at + 2])
    -- What is now no more than this entry was nothing before: the ledger may be new.
    if move(ledger, from == 'available' and available or from, -minor) == -minor then
      redis.call('SADD', prefix .. 'accounts', ledger)
      redis.call('SADD', prefix .. 'currencies:' .. name, string.sub(ledger, -3))
    end
    move(ledger, to == 'available' and available or to, minor)
    at = at + 3
  end

  local function work(due, lane, score)
    put(due, score, id)
    -- No lane sleeps longer than a minute.
    if tonumber(score) <= now + 60000 then wakes[due] = lane end
  end
  local function leave(index) if not opening then redis.call('ZREM', index, id) end end
  if held_at and (value[6] ~= 'k' or kind) then
    leave(prefix .. 'held:' .. held_at)
    redis.call('HDEL', key, 'held')
  end
  if value[6] == 'x' then
    leave(prefix .. 'due:poll')
    work(due_execute, 'execute', value[7])
  elseif value[6] == 'p' then
    leave(due_execute)
    work(prefix .. 'due:poll', 'poll', value[7])
  elseif kind == 'g' then
    -- Whoever sends the group may die: then the payout is presumed sent when the group's lease ends.
    put(due_execute, permit, id)
  elseif value[6] == 'n' then
    leave(due_execute)
    leave(prefix .. 'due:poll')
  end

  if opening then put(names.list, value[12], id) end
  if value[13] == '1' then
    put(open, value[12], id, 'NX')
    leave(prefix .. 'ended')
  else
    leave(open)
    put(prefix .. 'ended', value[12], id)
  end

  local function metadata() return value[18] ~= '' and value[18] or not opening and redis.call('HGET', key, 'meta') or '{}' end

  local events, room, handed = tonumber(value[at]), tonumber(value[22]), {}
  at = at + 1
  if events > 0 then
    local subscriptions, waiting = once('HGETALL', names.subscriptions), {}
    if room > 0 and is_anyones_turn() then room = 0 end
    for _ = 1, events do
      local sequence, kind = value[at], value[at + 1]
      field('e:' .. sequence, value[at + 2])
      at = at + 3
      for i = 1, #subscriptions, 2 do
        local subscription, filter = subscriptions[i], subscriptions[i + 1]
        local wanted, unordered, feed = filter == '*', false, false
        if not wanted then
          if string.byte(filter) == 35 then
            -- The fan-out: whoever stands behind this number by now is owed the event.
            wanted = true
            field('f:' .. sequence, string.sub(filter, 2))
          else
            wanted, unordered, feed = wants(filter, kind, metadata)
          end
        end
        if feed then
          redis.call('XADD', prefix .. 'feed:' .. name, '*', kind, id .. '/' .. sequence)
        elseif wanted then
          -- The deliveries of one payout to one subscription queue up here: only the first of them is in the lane.
          local queue = 'q:' .. subscription
          local tail = unordered and '' or waiting[subscription] or not opening and redis.call('HGET', key, queue) or ''
          if tail == '' then
            local member, flying = id .. '/' .. sequence, prefix .. 'fly:' .. subscription
            local share = room > 0 and share_of(subscription, flying)
            if share and share.left > 0 then
              room, share.left = room - 1, share.left - 1
              put(flying, leased_until, member)
              bring_forward(subscription, lease, leased_until)
              local n = #handed
              handed[n + 1], handed[n + 2], handed[n + 3] = subscription, share.version, sequence
            else
              put(prefix .. 'wait:' .. subscription, at_once, member)
              kept.turn = 'yes'
              if bring_forward(subscription, now, at_once) then wake('relay') end
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
  if advance then
    kept[account_key] = nil
    come_to(account_key, prefix .. 'due:schedule', prefix .. 'overdue', now, advanced, advanced_record, due_as, tonumber(look_again))
  end
  -- The last that can go wrong is behind it: whoever finds its token there finds all of it, once the sets are written.
  redis.call('HSET', key, unpack(fields, 1, written))
  return { 'committed', epoch, value[5] ~= '' and tonumber(redis.call('GET', prefix .. 'look-first') or 0) > tonumber(value[17]) and 1 or 0, passed, lease, unpack(handed) }
end

local answers, at, steps = {}, 4, #KEYS - 4
for step = 1, steps do
  local values, key = tonumber(ARGV[at]), KEYS[step + 4]
  local value, before = { unpack(ARGV, at + 1, at + values) }, #trail
  at = at + 1 + values
  local committed, answer = true, nil
  moves = 0
  if steps == 1 then
    answer = commit(key, value)
  else
    committed, answer = pcall(commit, key, value)
  end
  if committed then
    sum_up()
  else
    answer = { 'failed' }
    take_back(before)
  end
  answers[step] = answer
end
for ledger in pairs(moved) do settle_ledger(ledger) end
settle_pending()
return answers
