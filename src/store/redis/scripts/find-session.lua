#!lua flags=no-writes
-- ARGV: session id, nowMs. Returns the fields of the session with their values, or an empty list.
local key = SESSION .. ARGV[1]
local expires = call('HGET', key, 'expires')
if not expires or tonumber(expires) <= tonumber(ARGV[2]) then return {} end
return call('HGETALL', key)
