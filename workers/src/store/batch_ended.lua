-- Looks at some payouts of a batch for whether they have ended. Reads only.
--
-- KEYS  1 payouts of the batch  2 ended   ARGV  1 prefix of their records  2 first  3 last
-- Returns { payouts looked at, how many have not ended, the latest end, ms, or 0 }; a payout of which only the memory of its key is left has ended long ago
local ids, open, latest = redis.call('LRANGE', KEYS[1], ARGV[2], ARGV[3]), 0, 0
for _, id in ipairs(ids) do
  local at = redis.call('ZSCORE', KEYS[2], id)
  if at then
    latest = math.max(latest, tonumber(at))
  elseif redis.call('HEXISTS', ARGV[1] .. id, 'st') == 1 then
    open = open + 1
  end
end
return { #ids, open, latest }
