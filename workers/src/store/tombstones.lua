-- What stays of payouts that were trimmed: that their keys were used, and by what. Some 50 bytes each, because they stand in pages small enough for the server to
-- pack (`hash-max-listpack-entries`). How many there are says how many pages: one more page takes over what is now its own from one other, so no page is ever far
-- from its size, and none is searched for. Which page is whose depends on a secret of the store (`salt`), so nobody can choose keys that fill one.
--
-- Before a script that gets the prefix of the shard.
local PAGE = 48

local function page_of(name, pages, salt)
  local number, _, bits = tonumber(string.sub(redis.sha1hex(salt .. name), 1, 8), 16), math.frexp(pages)
  local page = number % 2 ^ bits
  return page < pages and page or number % 2 ^ (bits - 1)
end

local function pages_for(count) return math.max(1, math.floor(count / PAGE)) end
local function page_key(prefix, page) return prefix .. 'tombstones:' .. string.format('%d', page) end
-- 80 bits of the id: no two payouts share them.
local function name_of(id) return string.sub(id, -20) end

-- How many there are, and the salt.
local function tombstones(prefix) return redis.call('HMGET', prefix .. 'tombstones', 'n', 'salt') end

-- What is kept of the fingerprint of a payout that was trimmed; nil where none was under this id. `all`: see above.
local function tombstone(prefix, id, all)
  if not all[1] then return nil end
  local name = name_of(id)
  return redis.call('HGET', page_key(prefix, page_of(name, pages_for(tonumber(all[1])), all[2])), name) or nil
end

-- Before anything of the payout goes: an error in here leaves it as it is. `salt`: the store's, if it has none yet.
local function bury(prefix, id, fingerprint, salt)
  redis.call('HSETNX', prefix .. 'tombstones', 'salt', salt)
  local name, all = name_of(id), tombstones(prefix)
  local count = tonumber(all[1] or 0) + 1
  local pages, before = pages_for(count), pages_for(count - 1)
  if pages > before then
    local _, bits = math.frexp(before)
    local divided = before - 2 ^ (bits - 1)
    local from, to = page_key(prefix, divided), page_key(prefix, before)
    local entries = redis.call('HGETALL', from)
    local moved = {}
    for at = 1, #entries, 2 do
      if page_of(entries[at], pages, all[2]) ~= divided then
        redis.call('HSET', to, entries[at], entries[at + 1])
        moved[#moved + 1] = entries[at]
      end
    end
    -- Gone from where they were only when all are where they belong.
    for _, entry in ipairs(moved) do redis.call('HDEL', from, entry) end
  end
  redis.call('HSET', page_key(prefix, page_of(name, pages, all[2])), name, fingerprint)
  redis.call('HSET', prefix .. 'tombstones', 'n', count)
end
