-- What stays of payouts that were trimmed: that their keys were used, and by what. Some 50 bytes each, because they stand in pages small enough for the server to
-- pack (`hash-max-listpack-entries`). How many there are says how many pages: one more page takes over what is now its own from one other, so no page is ever far
-- from its size, and none is searched for.
--
-- Before a script that gets the prefix of the shard.
local PAGE = 48

local function page_of(name, pages)
  local number, _, bits = tonumber(string.sub(name, -8), 16), math.frexp(pages)
  local page = number % 2 ^ bits
  return page < pages and page or number % 2 ^ (bits - 1)
end

local function pages_for(count) return math.max(1, math.floor(count / PAGE)) end
local function page_key(prefix, page) return prefix .. 'tombstones:' .. string.format('%d', page) end
-- 80 bits of the id: no two payouts share them.
local function name_of(id) return string.sub(id, -20) end

-- What is kept of the fingerprint of a payout that was trimmed; nil where none was under this id. `count`: how many there are.
local function tombstone(prefix, id, count)
  local name = count > 0 and name_of(id)
  return name and redis.call('HGET', page_key(prefix, page_of(name, pages_for(count))), name) or nil
end

local function bury(prefix, id, fingerprint)
  local count = redis.call('INCR', prefix .. 'tombstones')
  local pages, before = pages_for(count), pages_for(count - 1)
  if pages > before then
    local _, bits = math.frexp(before)
    local divided = before - 2 ^ (bits - 1)
    local from, halves = page_key(prefix, divided), { [divided] = {}, [before] = {} }
    local all = redis.call('HGETALL', from)
    for at = 1, #all, 2 do
      local half = halves[page_of(all[at], pages)]
      half[#half + 1], half[#half + 2] = all[at], all[at + 1]
    end
    -- Written anew, so that one that had grown beyond what is packed is packed again.
    redis.call('DEL', from)
    for page, half in pairs(halves) do
      if #half > 0 then redis.call('HSET', page_key(prefix, page), unpack(half)) end
    end
  end
  local name = name_of(id)
  redis.call('HSET', page_key(prefix, page_of(name, pages)), name, fingerprint)
end

