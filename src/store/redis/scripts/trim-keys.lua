#!lua flags=allow-oom
-- Deletes keys that have expired. ARGV: 'idempotency' or 'session', bound of the score in the index, slice (keys to
-- delete now). Returns 1 if there are more.
local index, prefix = IDEMPOTENCY_INDEX, IDEMPOTENCY
if ARGV[1] == 'session' then index, prefix = SESSION_INDEX, SESSION end
local slice = tonumber(ARGV[3])
local due = call('ZRANGEBYSCORE', index, '-inf', ARGV[2], 'LIMIT', 0, slice)
if #due == 0 then return 0 end
local keys = {}
for i = 1, #due do keys[i] = prefix .. due[i] end
unlink(keys)
call('ZREM', index, unpack(due))
return #due == slice and 1 or 0
