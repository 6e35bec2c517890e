-- Forgets a page of the oldest links of a chain, as far as they were made before a time, and keeps the place and hash of the last one: the rest is a chain from there on.
-- Repeatable.
--
-- KEYS  1 chain (receipt_append.lua)   ARGV  1 the time, ms  2 links, at most
-- Returns how many were forgotten
local last = tonumber(redis.call('HGET', KEYS[1], 'n') or 0)
local from = tonumber(string.match(redis.call('HGET', KEYS[1], 'from') or '0', '^%d+'))
local trimmed = 0
while from < last and trimmed < tonumber(ARGV[2]) do
  local place = string.format('%d', from + 1)
  local ms, hash, of = string.match(redis.call('HGET', KEYS[1], place), '^(%d+) (%x+) (.+)$')
  if tonumber(ms) >= tonumber(ARGV[1]) then break end
  redis.call('HDEL', KEYS[1], place, of)
  redis.call('HSET', KEYS[1], 'from', place .. ' ' .. hash)
  from, trimmed = from + 1, trimmed + 1
end
return trimmed
