#!lua flags=allow-oom
-- Deletes idempotency keys that have expired. ARGV: bound of the score in the index, slice (keys to delete now). Returns
-- 1 if there are more.
local slice = tonumber(ARGV[2])
local due = call('ZRANGEBYSCORE', IDEMPOTENCY_INDEX, '-inf', ARGV[1], 'LIMIT', 0, slice)
if #due == 0 then return 0 end
local keys = {}
for i = 1, #due do keys[i] = IDEMPOTENCY .. due[i] end
unlink(keys)
call('ZREM', IDEMPOTENCY_INDEX, unpack(due))
return #due == slice and 1 or 0
