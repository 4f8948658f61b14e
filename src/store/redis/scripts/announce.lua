#!lua
-- ARGV: node id, facts, ttlMs. Returns the facts of all live nodes, by the clock of Redis.
local time = call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
call('ZADD', NODES, decimal(now + tonumber(ARGV[3])), ARGV[1])
call('HSET', NODE_FACTS, ARGV[1], ARGV[2])
local expired = call('ZRANGEBYSCORE', NODES, '-inf', decimal(now))
for i = 1, #expired do
  call('ZREM', NODES, expired[i])
  call('HDEL', NODE_FACTS, expired[i])
end
return call('HVALS', NODE_FACTS)
