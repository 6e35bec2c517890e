-- Counts the states of some payouts of a batch. Reads only.
--
-- KEYS  1 payouts of the batch   ARGV  1 prefix of their records  2 first  3 last
-- Returns { payouts looked at, state, count, state, count, … }; a payout of which only the memory of its key is left counts as 'archived'
local ids, counts = redis.call('LRANGE', KEYS[1], ARGV[2], ARGV[3]), {}
for _, id in ipairs(ids) do
  local state = redis.call('HGET', ARGV[1] .. id, 'st') or 'archived'
  counts[state] = (counts[state] or 0) + 1
end
local out = { #ids }
for state, count in pairs(counts) do
  out[#out + 1] = state
  out[#out + 1] = count
end
return out
