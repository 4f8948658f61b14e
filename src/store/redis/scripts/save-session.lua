#!lua
-- ARGV: session id, owner, data, expiresAtMs. Returns 1 if the session was written.
local key = SESSION .. ARGV[1]
local owner = call('HGET', key, 'owner')
if owner and owner ~= ARGV[2] then return 0 end
call('HSET', key, 'owner', ARGV[2], 'data', ARGV[3], 'expires', ARGV[4])
call('ZADD', SESSION_INDEX, ARGV[4], ARGV[1])
return 1
