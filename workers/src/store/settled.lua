-- Ends, or puts off, the work of a notice, if the lease still holds. A settled notice stays for a while as the memory of its id; a hint does not,
-- unless it came again since it was leased: then it is put off instead.
--
-- KEYS  1 notice  2 due:settle  3 orphans  4 clock   ARGV  1 id  2 token  3 d(one) r(etry) o(rphan) a(side) f(orget)  4 due, ms, of a retry  5 retention, ms
--       6 how often a hint had come when it was leased
local leased = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not leased or tonumber(leased) ~= tonumber(ARGV[2]) then return 'lost' end
local outcome = ARGV[3]
if outcome == 'f' and redis.call('HGET', KEYS[1], 'n') ~= ARGV[6] then outcome = 'r' end
if outcome == 'r' then
  redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
  -- That it has to wait is an outcome: only leases without one count against it.
  redis.call('HSET', KEYS[1], 'l', '0')
  return 'committed'
end
redis.call('ZREM', KEYS[2], ARGV[1])
if outcome == 'f' then
  redis.call('DEL', KEYS[1])
  return 'committed'
end
redis.call('HSET', KEYS[1], 'ended', outcome)
-- What nobody could read may be the only word about a return: it stays for whoever can.
if outcome ~= 'a' then redis.call('PEXPIRE', KEYS[1], ARGV[5]) end
if outcome == 'o' or outcome == 'a' then
  local t = redis.call('TIME')
  redis.call('ZADD', KEYS[3], t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[4]) or 0), ARGV[1])
end
return 'committed'
