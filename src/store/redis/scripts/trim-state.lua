#!lua flags=allow-oom
-- Forgets the oldest tickets. ARGV: stateBeforeMs, slice (entries to forget now). Returns 1 if there are more.
local log = readLog()
if not log then return 0 end
local budget = tonumber(ARGV[2])
local due = call('ZRANGEBYSCORE', STATE, '-inf', '(' .. ARGV[1], 'LIMIT', 0, budget)
for i = 1, #due do
  local tenant, ticket = string.match(due[i], '^([^,]*),(.*)$')
  local forgotten, done = forgetTicket(log, tenant, ticket, budget, false)
  budget = budget - forgotten
  if not done or budget <= 0 then return 1 end
end
return 0
