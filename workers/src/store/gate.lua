-- What a payout passes when it is opened (gate.rs), for the commit: `gate` is the question as JSON; `whom` the hash of the account, and where twins are refused, a
-- space, the hash of what makes an equal one, a space, and the amount; `name` its party and mode.

local unresolved = { inconclusive = true, in_review = true }
-- Ended, and by all that is known no money is gone.
local unmoved = { rejected = true, failed = true, canceled = true }
local ended = { rejected = true, failed = true, canceled = true, returned = true }

-- Why it is not opened at all: what it is to replace has not ended, or has a successor that may pay; or an equal payout is unresolved.
local function stopped(gate, whom, prefix)
  if gate.replaces then
    local is = redis.call('HMGET', prefix .. 'po:' .. gate.replaces, 'st', 'by')
    if not ended[is[1] or ''] then return { 'not-replaceable', is[1] or '' } end
    if is[2] and not ended[redis.call('HGET', prefix .. 'po:' .. is[2], 'st') or ''] then return { 'not-replaceable', 'replaced' } end
  end
  local equal, asked = string.match(whom, ' (%x+) (%w+)$')
  for _, twin in ipairs(equal and redis.call('SMEMBERS', prefix .. 'twin:' .. equal) or {}) do
    local amount, id = string.match(twin, '^(%w+) (.+)$')
    if amount == asked or amount == 'whole' or asked == 'whole' then return { 'twin', id } end
  end
end

-- The part of a window in which a payout counts: that of its day, if it has one.
local function part_of(gate, counter, now) return math.floor(math.max(now, gate.at_ms or 0) / counter.part_ms) end

-- The bound that it goes beyond, as gate.rs reads it, or nil: `what` is 'reject' or 'approve'. With it counts what goes within a window before it or after it.
local function is_beyond(gate, what, prefix, now)
  for place, counter in ipairs(gate.counters or {}) do
    local most, times = counter[what .. '_minor'], counter[what .. '_count']
    if most or times then
      local minor, count, at, fields = counter.minor, counter.count, part_of(gate, counter, now), {}
      for part = at - counter.parts, at + counter.parts do
        fields[#fields + 1] = string.format('%dm', part)
        fields[#fields + 1] = string.format('%dn', part)
      end
      local held = redis.call('HMGET', prefix .. 'lim:' .. counter.key, unpack(fields))
      for i = 1, #held, 2 do
        minor, count = minor + (held[i] or 0), count + (held[i + 1] or 0)
      end
      if most and minor > most then return place .. ' ' .. what .. '_minor' end
      if times and count > times then return place .. ' ' .. what .. '_count' end
    end
  end
  return nil
end

-- Whether nothing that counts was sent to its account lately, or so much to others since that it is forgotten.
local function is_new(gate, whom, prefix, name, now)
  local known, account = prefix .. 'known:' .. name, string.match(whom, '^%x+')
  local sent = redis.call('ZSCORE', known, account)
  return not sent or tonumber(sent) < now - gate.known_ms or redis.call('ZREVRANK', known, account) >= gate.known_max
end

-- Counts it, and says where: what `give_or_take` needs. What left a window lately goes, and all of it when nothing was counted for as long.
local function count(gate, prefix, now)
  if not gate.counters then return '' end
  local shares = {}
  for _, counter in ipairs(gate.counters) do
    local key, part, gone = prefix .. 'lim:' .. counter.key, string.format('%d', part_of(gate, counter, now)), {}
    local oldest = math.floor(now / counter.part_ms) - counter.parts
    for left = oldest - 2 * counter.parts, oldest - 1 do
      gone[#gone + 1] = string.format('%dm', left)
      gone[#gone + 1] = string.format('%dn', left)
    end
    redis.call('HDEL', key, unpack(gone))
    redis.call('HINCRBY', key, part .. 'm', string.format('%.0f', counter.minor))
    redis.call('HINCRBY', key, part .. 'n', counter.count)
    -- Until its day has left the window; one that is further away stays as it is.
    local until_ms = (part + counter.parts + 2) * counter.part_ms - now
    if redis.call('PTTL', key) < until_ms then redis.call('PEXPIRE', key, string.format('%d', until_ms)) end
    shares[#shares + 1] = string.format('%s %s %.0f %d;', counter.key, part, counter.minor, counter.count)
  end
  return table.concat(shares)
end

-- Gives a payout's share of its limits back, or takes it again; not of a window that it has left.
local function give_or_take(shares, sign, prefix)
  for key, part, minor, times in string.gmatch(shares, '(%S+) (%d+) (%d+) (%d+);') do
    key = prefix .. 'lim:' .. key
    if redis.call('HEXISTS', key, part .. 'n') == 1 then
      -- The server takes no '-0'.
      if minor ~= '0' then redis.call('HINCRBY', key, part .. 'm', sign .. minor) end
      if times ~= '0' then redis.call('HINCRBY', key, part .. 'n', sign .. times) end
    end
  end
end

-- What is remembered of a payout that is let through (`to`): who it goes to, after a '-' if to be sent makes no account known, and what would be its twin.
-- `waits`: a person will have approved it when it is sent.
local function pass(gate, whom, id, prefix, name, now, waits)
  if gate.replaces then redis.call('HSET', prefix .. 'po:' .. gate.replaces, 'by', id) end
  -- What is_new does not look at any more goes, with each sixteenth payout: that is often enough to bound it.
  if string.byte(id, -1) == 48 then
    local known = prefix .. 'known:' .. name
    redis.call('ZREMRANGEBYSCORE', known, '-inf', now - gate.known_ms)
    redis.call('ZREMRANGEBYRANK', known, 0, -1 - gate.known_max)
  end
  local proves = waits or not gate.proves_nothing or not is_new(gate, whom, prefix, name, now)
  return proves and whom or '-' .. whom
end

-- After a change of the state: what an equal payout would meet, and what limits count.
local function follow(id, to, shares, was, is, prefix)
  local twin, amount = string.match(to or '', ' (%x+) (%w+)$')
  if twin and unresolved[was] ~= unresolved[is] then redis.call(unresolved[is] and 'SADD' or 'SREM', prefix .. 'twin:' .. twin, amount .. ' ' .. id) end
  if shares and unmoved[was] ~= unmoved[is] then give_or_take(shares, unmoved[is] and '-' or '', prefix) end
end

