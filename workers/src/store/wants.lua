-- What a subscription wants, for the scripts that make deliveries. Most say it in a word: '*', or the types and families with a comma around each; who asks for more, as JSON.

-- Whether a type or its family is named. Many subscriptions name the same, so what was found once is kept.
local found = {}
local function is_named(kinds, kind)
  local of = found[kinds]
  if not of then
    of = {}
    found[kinds] = of
  end
  if of[kind] == nil then
    of[kind] = (string.find(kinds, ',' .. kind .. ',', 1, true) or string.find(kinds, ',' .. string.match(kind, '^[^.]*') .. '.*,', 1, true)) ~= nil
  end
  return of[kind]
end

-- Whether it wants an event, whether without waiting for those before it, and whether it is a feed. `metadata` gives the payout's, as text; without it the event is no payout's:
-- such a one is asked for by name only.
local function wants(filter, kind, metadata)
  if string.byte(filter) ~= 123 then return metadata and filter == '*' or is_named(filter, kind) end
  local asks = cjson.decode(filter)
  if metadata and next(asks.metadata) then
    local read, has = pcall(cjson.decode, metadata())
    -- What cannot be read is rather told too much.
    for name, value in pairs(read and asks.metadata or {}) do
      if has[name] ~= value then return false end
    end
  end
  return metadata and asks.kinds == '*' or is_named(asks.kinds, kind), asks.unordered, asks.feed
end

