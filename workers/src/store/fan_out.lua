-- Makes the deliveries of one event to the next page of a party's subscriptions that commits do not match, in the order in which they came, and acknowledges the work behind the
-- last page. How far it has come is written with the page: whoever holds the lease calls until it is done, and whoever comes after a crash goes on.
--
-- KEYS  1 payout or bulletin  2 what waits in the fan-out's lane  3 what is under way there  4 lanes  5 clock  6 those subscriptions
-- ARGV  1 key prefix  2 name of the fan-out  3 payout id  4 sequence  5 lease token  6 subscriptions of a page
-- Returns 'page', 'done', or 'lost' to who does not hold the lease
local key, waiting, flying, lanes, prefix, fan_out, id, sequence = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local member, most = id .. '/' .. sequence, tonumber(ARGV[6])
local leased = redis.call('ZSCORE', flying, member)
if not leased or tonumber(leased) ~= tonumber(ARGV[5]) then return 'lost' end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(redis.call('GET', KEYS[5]) or 0)

local held = redis.call('HMGET', key, 'f:' .. sequence, 'e:' .. sequence, 'meta', 'n', 'q:' .. fan_out)
-- The last one that is owed the event, the last one that has it; of a bulletin the events that go behind the last page, unless somebody waits for them.
local last, place, rest = string.match(held[2] and held[1] or '0', '^(%d+) ?(%d*) ?(.*)$')
local going = {}
for event in string.gmatch(rest, '%d+') do going[#going + 1] = event end
local kind, metadata = string.match(held[2] or '', '^%S+') or '', nil
if not held[4] then metadata = function() return held[3] or '{}' end end

local found = redis.call('ZRANGEBYSCORE', KEYS[6], '(' .. (place ~= '' and place or '0'), last, 'WITHSCORES', 'LIMIT', 0, most)
local names, filters = {}, {}
for i = 1, #found, 2 do
  local n = #names
  names[n + 1], names[n + 2] = 'q:' .. found[i], 'd:' .. found[i] .. ':' .. sequence
  filters[#filters + 1] = redis.call('HGET', prefix .. 'sub:' .. found[i], 'wants') or ''
end
local has = #names > 0 and redis.call('HMGET', key, unpack(names)) or {}

local fields, gone, turns = {}, {}, {}
for i, filter in ipairs(filters) do
  local subscription, queue, delivery = found[2 * i - 1], has[2 * i - 1] or '', has[2 * i]
  local wait = prefix .. 'wait:' .. subscription
  local wanted, unordered = wants(filter, kind, metadata)
  -- A replay may have come first.
  if wanted and not delivery and not string.find(',' .. queue .. ',', ',' .. sequence .. ',', 1, true) then
    if unordered or queue == '' then
      redis.call('ZADD', wait, now, member)
      turns[#turns + 1] = now
      turns[#turns + 1] = subscription
    end
    if not unordered then
      fields[#fields + 1] = 'q:' .. subscription
      fields[#fields + 1] = queue == '' and sequence or queue .. ',' .. sequence
    elseif metadata then
      -- So that whoever trims the payout knows whose lanes to look into.
      fields[#fields + 1] = 'w:' .. subscription
      fields[#fields + 1] = '1'
    end
  end
  for at = #going, 1, -1 do
    local event = going[at]
    local waits = tonumber(string.match(queue, '^%d+') or sequence) <= tonumber(event)
    for _, lane in ipairs({ wait, prefix .. 'fly:' .. subscription }) do waits = waits or redis.call('ZSCORE', lane, id .. '/' .. event) end
    if waits then
      table.remove(going, at)
    else
      gone[#gone + 1] = 'd:' .. subscription .. ':' .. event
      if redis.call('ZREM', prefix .. 'abandoned:' .. subscription, id .. '/' .. event) == 1 then
        redis.call('ZREM', prefix .. 'abandoned', subscription .. '/' .. id .. '/' .. event)
      end
    end
  end
end
if #fields > 0 then redis.call('HSET', key, unpack(fields)) end
if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
if #turns > 0 then
  redis.call('ZADD', lanes, 'LT', unpack(turns))
  redis.call('PUBLISH', prefix .. 'wake', 'relay')
end

if #filters == most then
  redis.call('HSET', key, 'f:' .. sequence, last .. ' ' .. found[#found] .. ' ' .. table.concat(going, ' '))
  return 'page'
end
for _, event in ipairs(going) do
  redis.call('HDEL', key, 'once:' .. (redis.call('HGET', key, 'told:' .. event) or ''), 'told:' .. event, 'e:' .. event)
end
redis.call('HDEL', key, 'f:' .. sequence, 'l:' .. fan_out)
redis.call('ZREM', flying, member)
-- The next event of the payout has its turn.
local rest = string.match(held[5] or '', '^%d+,(.+)$')
if rest then
  redis.call('HSET', key, 'q:' .. fan_out, rest)
  redis.call('ZADD', waiting, now, id .. '/' .. string.match(rest, '^%d+'))
else
  redis.call('HDEL', key, 'q:' .. fan_out)
end
local head = redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES')[2]
if head then
  redis.call('ZADD', lanes, 'LT', math.max(tonumber(head), now), fan_out)
  redis.call('PUBLISH', prefix .. 'wake', 'relay')
elseif redis.call('EXISTS', flying) == 0 then
  redis.call('ZREM', lanes, fan_out)
end
return 'done'
