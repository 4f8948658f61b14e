#!lua flags=allow-oom
-- ARGV: session id, owner, expiresAtMs, …
for i = 1, #ARGV, 3 do
  local key = SESSION .. ARGV[i]
  if call('HGET', key, 'owner') == ARGV[i + 1] then
    call('HSET', key, 'expires', ARGV[i + 2])
    call('ZADD', SESSION_INDEX, ARGV[i + 2], ARGV[i])
  end
end
