#!lua flags=allow-oom
-- ARGV: session id, owner.
local key = SESSION .. ARGV[1]
if call('HGET', key, 'owner') ~= ARGV[2] then return end
call('UNLINK', key)
call('ZREM', SESSION_INDEX, ARGV[1])
