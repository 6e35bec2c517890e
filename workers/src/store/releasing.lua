-- Makes payouts due again that were held, for the scripts that do: the first `most` of them. The time for which they are tried begins anew at `since`,
-- until which nobody was allowed to send them. Returns how many there were.
local function release_held(held, execute, prefix, most, since, now)
  local ids = redis.call('ZRANGE', held, 0, most - 1)
  for _, id in ipairs(ids) do
    redis.call('ZREM', held, id)
    local payout = prefix .. 'po:' .. id
    redis.call('HDEL', payout, 'held')
    if since > tonumber(redis.call('HGET', payout, 'aside') or 0) then redis.call('HSET', payout, 'aside', since) end
    redis.call('ZADD', execute, now, id)
  end
  if #ids > 0 then redis.call('PUBLISH', prefix .. 'wake', 'execute') end
  return #ids
end

