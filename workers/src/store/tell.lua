-- Adds an event to the bulletin of a party and makes its deliveries, for the scripts that do. A bulletin is shaped like a payout, so the relay knows no difference; what
-- it is about nobody gets who has not asked for it by name: '*' means payouts.
--
-- of: prefix, id (of the bulletin), sequence, kind, text, subs (index of the party), lanes, kept (events), once ('' or what is told once), also (one more subscription)

local function tell(of, now)
  -- What is left of a delivery whose event goes.
  local function forget(subscription, event)
    local member = of.id .. '/' .. event
    redis.call('HDEL', of.prefix .. 'po:' .. of.id, 'd:' .. subscription .. ':' .. event)
    if redis.call('ZREM', of.prefix .. 'abandoned:' .. subscription, member) == 1 then
      redis.call('ZREM', of.prefix .. 'abandoned', subscription .. '/' .. member)
    end
  end

  local key, sequence = of.prefix .. 'po:' .. of.id, tonumber(of.sequence)
  local subscriptions, old = redis.call('HGETALL', of.subs), sequence - tonumber(of.kept)
  redis.call('HSET', key, 'n', sequence, 'e:' .. sequence, of.text)
  if of.once ~= '' then redis.call('HSET', key, 'once:' .. of.once, sequence, 'told:' .. sequence, of.once) end
  local fan_out
  local function deliver(subscription, unordered)
    local queue = not unordered and redis.call('HGET', key, 'q:' .. subscription) or ''
    if queue == '' then
      redis.call('ZADD', of.prefix .. 'wait:' .. subscription, now, of.id .. '/' .. sequence)
      redis.call('ZADD', of.lanes, 'LT', now, subscription)
    end
    if not unordered then redis.call('HSET', key, 'q:' .. subscription, queue == '' and sequence or queue .. ',' .. sequence) end
  end
  for i = 1, #subscriptions, 2 do
    local wanted, unordered, feed = wants(subscriptions[i + 1], of.kind)
    if feed then redis.call('XADD', of.prefix .. 'feed:' .. string.sub(of.subs, #of.prefix + 6), '*', of.kind, of.id .. '/' .. sequence) end
    if string.byte(subscriptions[i + 1]) == 35 then wanted, fan_out = true, string.sub(subscriptions[i + 1], 2) end
    if wanted then deliver(subscriptions[i], unordered) end
  end
  if of.also ~= '' then deliver(of.also, false) end
  local function is_awaited(event)
    for i = 1, #subscriptions, 2 do
      if tonumber(string.match(redis.call('HGET', key, 'q:' .. subscriptions[i]) or '', '^%d+') or sequence) <= event then return true end
      for _, lane in ipairs({ 'wait:', 'fly:' }) do
        if redis.call('ZSCORE', of.prefix .. lane .. subscriptions[i], of.id .. '/' .. event) then return true end
      end
    end
  end
  if fan_out then
    -- The oldest one, and the one whose time has come, go unless somebody still waits for them. Whether one of those does that stand behind the fan-out is seen when it has come
    -- by all of them.
    local first, going = tonumber(redis.call('HGET', key, 'first') or 1), {}
    local last = math.min(old, first + 15)
    while first <= last and redis.call('HEXISTS', key, 'e:' .. first) == 0 do first = first + 1 end
    redis.call('HSET', key, 'first', first)
    for _, event in ipairs({ first, old }) do
      if event > 0 and event <= old and event ~= tonumber(going[1]) and not is_awaited(event) then
        going[#going + 1] = tostring(event)
        for i = 1, #subscriptions, 2 do forget(subscriptions[i], event) end
      end
    end
    redis.call('HSET', key, 'f:' .. sequence, fan_out .. ' 0 ' .. table.concat(going, ' '))
  else
    -- The oldest go, as far as nobody waits for them; so many at a time, so that what was kept back goes with those that come later.
    local first = tonumber(redis.call('HGET', key, 'first') or 1)
    local event, last = first, math.min(old, first + 15)
    while event <= last and not is_awaited(event) do
      redis.call('HDEL', key, 'once:' .. (redis.call('HGET', key, 'told:' .. event) or ''), 'told:' .. event, 'e:' .. event)
      event = event + 1
    end
    if event > first then
      redis.call('HSET', key, 'first', event)
      for gone = first, event - 1 do
        for i = 1, #subscriptions, 2 do forget(subscriptions[i], gone) end
      end
    end
  end
  -- Of deliveries whose event has gone something may be left: those to subscriptions that are gone too, and what was recorded late. With each event some fields are looked at, and
  -- the next one goes on behind them, so that all are in the end.
  local place, fields = unpack(redis.call('HSCAN', key, redis.call('HGET', key, 'swept') or '0', 'MATCH', 'd:*', 'COUNT', 200))
  for i = 1, #fields, 2 do
    local subscription, event = string.match(fields[i], '^d:([^:]+):(%d+)$')
    if event and redis.call('HEXISTS', key, 'e:' .. event) == 0 then forget(subscription, event) end
  end
  if place == '0' then redis.call('HDEL', key, 'swept') else redis.call('HSET', key, 'swept', place) end
  redis.call('PUBLISH', of.prefix .. 'wake', 'relay')
end

