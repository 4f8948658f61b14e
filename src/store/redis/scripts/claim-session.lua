#!lua flags=allow-oom
-- ARGV: session id, owner, nowMs. Returns data and expiresAtMs, or an empty list.
local key = SESSION .. ARGV[1]
local stored = call('HMGET', key, 'data', 'expires')
if not stored[1] or tonumber(stored[2]) <= tonumber(ARGV[3]) then return {} end
call('HSET', key, 'owner', ARGV[2])
return stored
