#!lua flags=allow-oom
-- ARGV: session id, owner, expiresAtMs, …
for i = 1, #ARGV, 3 do
  local key = SESSION .. ARGV[i]
  local stored = call('HMGET', key, 'owner', 'holder')
  if stored[1] == ARGV[i + 1] then
    call('HSET', key, 'expires', ARGV[i + 2])
    call('ZADD', SESSION_INDEX, ARGV[i + 2], ARGV[i])
    if stored[2] then call('ZADD', SESSIONS_OF .. stored[2], ARGV[i + 2], ARGV[i]) end
  end
end
