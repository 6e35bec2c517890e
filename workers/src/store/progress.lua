-- How the schedule of a balance account goes on, for the scripts that decide it: the account as it is afterwards, and when to look at it again.
local function come_to(account, due, overdue, now, version, record, member, wait)
  -- In this order: what can be of the wrong type comes before what says that it is done.
  redis.call('ZADD', due, now + wait, member)
  redis.call('ZREM', overdue, member)
  redis.call('HSET', account, 'v', version, 'rec', record, 'l', '0')
end

