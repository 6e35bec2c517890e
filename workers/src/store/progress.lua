-- How the schedule of a balance account goes on, for the scripts that decide it: the account as it is afterwards, and when to look at it again.
local function come_to(account, due, overdue, now, version, record, member, wait)
  redis.call('HSET', account, 'v', version, 'rec', record, 'l', '0')
  redis.call('ZADD', due, now + wait, member)
  redis.call('ZREM', overdue, member)
end

