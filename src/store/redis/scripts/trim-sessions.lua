#!lua flags=allow-oom
-- Deletes sessions that have expired. ARGV: nowMs, slice (sessions to delete now). Returns 1 if there are more.
local due = call('ZRANGEBYSCORE', SESSION_INDEX, '-inf', ARGV[1], 'LIMIT', 0, tonumber(ARGV[2]))
for i = 1, #due do forgetSession(due[i]) end
return #due == tonumber(ARGV[2]) and 1 or 0
