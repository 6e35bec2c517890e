-- Reads of a payout what does not grow with the number of its party's subscriptions: its record, its events, and either its observations or, where a subscription is named, all
-- that is on record of that one.
--
-- KEYS  1 payout   ARGV  1 subscription, or ''
-- Returns { field, value, field, value, … }
local key, subscription = KEYS[1], ARGV[1]
local record = redis.call('HGET', key, 'rec')
local read, payout = pcall(cjson.decode, record or '')
-- Whoever asks sees for himself that it cannot be read.
if not read then return { 'rec', record or nil } end
local names = { 'rec', 'meta' }
for sequence = 1, payout.sequence do
  names[#names + 1] = 'e:' .. sequence
  if subscription ~= '' then names[#names + 1] = 'd:' .. subscription .. ':' .. sequence end
end
if subscription ~= '' then
  names[#names + 1] = 'q:' .. subscription
else
  for version = 1, payout.version do names[#names + 1] = 'o:' .. version end
end
local out = {}
-- No more are unpacked at a time than the server has room for.
for first = 1, #names, 1000 do
  local last = math.min(first + 999, #names)
  for i, value in ipairs(redis.call('HMGET', key, unpack(names, first, last))) do
    if value then
      out[#out + 1] = names[first + i - 1]
      out[#out + 1] = value
    end
  end
end
return out
