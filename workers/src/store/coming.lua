-- Whether an event of a payout will come to a subscription by the fan-out, which has not come by it yet: to make that delivery now would put it before those that come first.
-- `more`: the subscriptions behind the fan-out, by their places.
local function is_coming(key, more, subscription, sequence)
  local fan_out = redis.call('HGET', key, 'f:' .. sequence)
  local own = fan_out and redis.call('ZSCORE', more, subscription)
  if not own then return false end
  local last, place = string.match(fan_out, '^(%d+) ?(%d*)')
  return tonumber(own) <= tonumber(last) and tonumber(own) > tonumber(place ~= '' and place or 0)
end

