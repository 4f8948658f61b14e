#!lua flags=allow-oom
-- Erases the state of tickets. ARGV: tenant, ticket or '' for all, slice (entries to forget now), then members
-- of STATE; their scores may be among them, and match no ticket.
-- Returns 1 if these members have more entries, else 0; and the number of records deleted.
local log = readLog()
if not log then return { 0, 0 } end
local budget, erased = tonumber(ARGV[3]), 0
for i = 4, #ARGV do
  local tenant, ticket = string.match(ARGV[i], '^([^,]*),(.*)$')
  if tenant == ARGV[1] and (ARGV[2] == '' or ticket == ARGV[2]) then
    local forgotten, done, deleted = forgetTicket(log, tenant, ticket, budget, true)
    budget, erased = budget - forgotten, erased + deleted
    if not done or budget <= 0 then return { 1, erased } end
  end
end
return { 0, erased }
