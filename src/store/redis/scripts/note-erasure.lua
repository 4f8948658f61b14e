#!lua flags=allow-oom
-- Lets all nodes know of an erasure. ARGV: its key, how many erasures to keep, the number of records erased.
local newest = call('XREVRANGE', ERASURES, '+', '-', 'COUNT', 1)[1]
local number = decimal((newest and tonumber(string.match(newest[1], '^%d+')) or 0) + 1)
call('XADD', ERASURES, 'MAXLEN', ARGV[2], number .. '-0', 'k', ARGV[1])
if ARGV[3] ~= '0' then call('HSET', META, 'rewrite', number) end
wakeTails()
