-- Adds an event to the bulletin of a party and makes its deliveries, for the scripts that do. A bulletin is shaped like a payout, so the relay knows no difference; what
-- it is about nobody gets who has not asked for it by name: '*' means payouts.
--
-- of: prefix, id (of the bulletin), sequence, kind, text, subs (index of the party), lanes, kept (events), once ('' or what is told once), also (one more subscription)

local function tell(of, now)
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
    local wanted, unordered = wants(subscriptions[i + 1], of.kind)
    if string.byte(subscriptions[i + 1]) == 35 then wanted, fan_out = true, string.sub(subscriptions[i + 1], 2) end
    if wanted then deliver(subscriptions[i], unordered) end
  end
  if of.also ~= '' then deliver(of.also, false) end
  -- The oldest goes, unless somebody still waits for it.
  for i = 1, #subscriptions, 2 do
    if tonumber(string.match(redis.call('HGET', key, 'q:' .. subscriptions[i]) or '', '^%d+') or sequence) <= old then old = 0 end
    for _, lane in ipairs({ 'wait:', 'fly:' }) do
      if old > 0 and redis.call('ZSCORE', of.prefix .. lane .. subscriptions[i], of.id .. '/' .. old) then old = 0 end
    end
  end
  -- Whether one of those does that stand behind the fan-out is seen when it has come by all of them.
  if fan_out then redis.call('HSET', key, 'f:' .. sequence, fan_out .. ' 0 ' .. math.max(old, 0)) end
  if old > 0 and not fan_out then
    redis.call('HDEL', key, 'once:' .. (redis.call('HGET', key, 'told:' .. old) or ''), 'told:' .. old, 'e:' .. old)
  end
  if old > 0 then
    for i = 1, #subscriptions, 2 do redis.call('HDEL', key, 'd:' .. subscriptions[i] .. ':' .. old) end
  end
  redis.call('PUBLISH', of.prefix .. 'wake', 'relay')
end

