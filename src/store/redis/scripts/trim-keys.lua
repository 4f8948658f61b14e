#!lua flags=allow-oom
-- Deletes idempotency keys that have expired. ARGV: the ms before which they have, slice (keys to delete now). Returns 1 if
-- there are more.
local slice = tonumber(ARGV[2])
-- A mark of an erasure is part of the keys of later changes, and the last of those expires after twice as long.
local now = tonumber(call('TIME')[1]) * 1000
call('ZREMRANGEBYSCORE', FRESH, '-inf', '(' .. decimal(2 * tonumber(ARGV[1]) - now))
local due = call('ZRANGEBYSCORE', IDEMPOTENCY_INDEX, '-inf', '(' .. ARGV[1], 'LIMIT', 0, slice)
if #due == 0 then return 0 end
local keys = {}
for i = 1, #due do keys[i] = IDEMPOTENCY .. due[i] end
unlink(keys)
call('ZREM', IDEMPOTENCY_INDEX, unpack(due))
return #due == slice and 1 or 0
