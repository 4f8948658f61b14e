#!lua flags=allow-oom
-- ARGV: session id, owner, nowMs. Returns the fields of the session with their values, or an empty list.
local key = SESSION .. ARGV[1]
local expires = call('HGET', key, 'expires')
if not expires or tonumber(expires) <= tonumber(ARGV[3]) then return {} end
call('HSET', key, 'owner', ARGV[2])
return call('HGETALL', key)
