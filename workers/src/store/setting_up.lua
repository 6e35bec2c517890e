-- How a balance account is set up, for the scripts that do. `decided_on`: '0' is an account that nobody has set up.
local function refusal(account, ledger, decided_on, funding)
  local held = redis.call('HMGET', account, 'v', 'funding')
  if (held[1] or '0') ~= decided_on then return 'stale' end
  -- Who pays for a payout that is under way must not change.
  if (held[2] or 'provider') ~= funding and (redis.call('HGET', ledger, 'reserved') or '0') ~= '0' then return 'busy' end
end

-- After everything that can refuse. `ledgers`: of the shard, `currencies`: of the party; `planned`: '1' for an account with a schedule.
local function set_up(account, ledger, ledgers, currencies, version, token, record, funding, status, holder, currency, planned)
  redis.call('HSET', account, 'v', version, 'token', token, 'rec', record, 'funding', funding, 'status', status, 'sec', holder)
  redis.call('SADD', ledgers, ledger)
  redis.call('SADD', currencies, currency)
  -- Whoever looks at the schedule knows the calendars: at once, for it may have changed.
  local prefix, member = string.match(account, '^(.*{s%d+}:)account:(.+)$')
  redis.call('ZREM', prefix .. 'overdue', member)
  if planned == '1' then
    local t = redis.call('TIME')
    local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', prefix .. 'clock') or 0)
    redis.call('ZADD', prefix .. 'schedules', 0, member)
    redis.call('ZADD', prefix .. 'due:schedule', now, member)
    redis.call('PUBLISH', prefix .. 'wake', 'schedule')
  else
    redis.call('ZREM', prefix .. 'schedules', member)
    redis.call('ZREM', prefix .. 'due:schedule', member)
  end
end

