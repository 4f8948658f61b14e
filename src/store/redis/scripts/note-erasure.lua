#!lua flags=allow-oom
-- Lets all nodes know of an erasure, and lets no change be a repeat of one before it. ARGV: its key, how many erasures to
-- keep, the number of records erased, tenant, ticket or ''.
local newest = call('XREVRANGE', ERASURES, '+', '-', 'COUNT', 1)[1]
local number = decimal((newest and tonumber(string.match(newest[1], '^%d+')) or 0) + 1)
call('XADD', ERASURES, 'MAXLEN', ARGV[2], number .. '-0', 'k', ARGV[1])
if ARGV[3] ~= '0' then call('HSET', META, 'rewrite', number) end
local time = call('TIME')
call('ZADD', FRESH, decimal(tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)), redis.sha1hex(ARGV[4] .. '\n' .. ARGV[5]))
wakeTails()
