-- How a balance account is set up, for the scripts that do. `decided_on`: '0' is an account that nobody has set up.
local function refusal(account, ledger, decided_on, funding)
  local held = redis.call('HMGET', account, 'v', 'funding')
  if (held[1] or '0') ~= decided_on then return 'stale' end
  -- Who pays for a payout that is under way must not change.
  if (held[2] or 'provider') ~= funding and (redis.call('HGET', ledger, 'reserved') or '0') ~= '0' then return 'busy' end
end

-- After everything that can refuse. `ledgers`: of the shard, `currencies`: of the party.
local function set_up(account, ledger, ledgers, currencies, version, token, record, funding, status, holder, currency)
  local begins = funding == 'balance' and redis.call('HGET', account, 'funding') ~= 'balance'
  redis.call('HSET', account, 'v', version, 'token', token, 'rec', record, 'funding', funding, 'status', status, 'sec', holder)
  redis.call('SADD', ledgers, ledger)
  redis.call('SADD', currencies, currency)
  local available = redis.call('HGET', ledger, 'available')
  if begins and available and string.sub(available, 1, 1) == '-' then
    -- What the provider has funded is not the account's debt.
    redis.call('HINCRBY', ledger, 'available', string.sub(available, 2))
    redis.call('HINCRBY', ledger, 'clearing', available)
  end
end

