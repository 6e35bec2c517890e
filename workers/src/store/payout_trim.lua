-- Forgets payouts but for the memory of their keys: an old key never pays again. Only what has ended long ago, is as it was when it was archived, and owes nobody anything
-- is trimmed; the rest stays as it is. Repeatable.
--
-- KEYS  1 ended  2 frozen  3 look-first
-- ARGV  1 key prefix  2 what ended until then, ms  3 characters of a fingerprint that stay, or 0: nothing is trimmed, only said  4 salt (tombstones.lua); then of each payout
--       (id, version that was seen, 'party:mode', when it was asked for, ms, id of its batch or '')
-- Returns of each '' where it was trimmed, or would be, else why not
local prefix, until_ms, kept = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local frozen = redis.call('EXISTS', KEYS[2]) == 1
local look_first = tonumber(redis.call('GET', KEYS[3]) or 0)
local subscriptions = {}

-- Those that commits match.
local function of_party(name)
  if not subscriptions[name] then subscriptions[name] = redis.call('HKEYS', prefix .. 'subs:' .. name) end
  return subscriptions[name]
end

-- Why a payout has to stay, if it does.
local function owes(id, version, name, asked_at, batch)
  local ended = redis.call('ZSCORE', KEYS[1], id)
  if not ended or tonumber(ended) > until_ms then return 'not_ended' end
  if frozen or look_first > asked_at then return 'suspect' end
  if batch ~= '' and redis.call('ZSCORE', prefix .. 'batches', batch) then return 'batch' end
  for _, index in ipairs({ 'open', 'due:execute', 'due:poll' }) do
    if redis.call('ZSCORE', prefix .. index, id) then return 'work' end
  end
  local key, concerned, events = prefix .. 'po:' .. id, {}, {}
  if redis.call('HGET', key, 'v') ~= version then return 'changed' end
  for _, field in ipairs(redis.call('HKEYS', key)) do
    local kind = string.sub(field, 1, 2)
    if kind == 'q:' then return 'deliveries' end
    if kind == 'e:' then events[#events + 1] = string.sub(field, 3) end
    if kind == 'd:' or kind == 'w:' then concerned[string.match(field, '^%a:([^:]*)')] = true end
  end
  -- What waits without order, or was asked for once more, is in its lane only (where the fan-out has put it, 'w:' says so); and what was given up can be asked for as long as it
  -- is listed.
  for _, subscription in ipairs(of_party(name)) do concerned[subscription] = true end
  for subscription in pairs(concerned) do
    for _, lane in ipairs({ 'wait:', 'fly:', 'abandoned:' }) do
      for _, sequence in ipairs(events) do
        if redis.call('ZSCORE', prefix .. lane .. subscription, id .. '/' .. sequence) then return lane == 'abandoned:' and 'abandoned' or 'deliveries' end
      end
    end
  end
end

local answers = {}
for at = 5, #ARGV, 5 do
  local id, name = ARGV[at], ARGV[at + 2]
  local why = owes(id, ARGV[at + 1], name, tonumber(ARGV[at + 3]), ARGV[at + 4])
  if not why and kept > 0 then
    local key = prefix .. 'po:' .. id
    -- One without a fingerprint keeps one that no request has.
    local fingerprint = string.sub(redis.call('HGET', key, 'fp') or '-', 1, kept)
    bury(prefix, id, fingerprint, ARGV[4])
    redis.call('DEL', key)
    redis.call('ZREM', prefix .. 'list:' .. name, id)
    redis.call('ZREM', KEYS[1], id)
  end
  answers[#answers + 1] = why or ''
end
return answers
