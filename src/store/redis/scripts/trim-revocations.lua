#!lua flags=allow-oom
-- Removes revocations that are too old. ARGV: bound of createdAtMs, slice, a fresh text. Returns 1 if there may be more.
local oldest = call('ZRANGE', REVOCATIONS, 0, tonumber(ARGV[2]) - 1)
local removed = 0
for i = 1, #oldest do
  local number, createdAtMs = string.match(oldest[i], '^(%d+) (%d+)')
  if tonumber(createdAtMs) >= tonumber(ARGV[1]) then break end
  local text, _, tenant = revocationAt(number)
  removeRevocation(number, text, tenant)
  removed = removed + 1
end
if removed > 0 then noteRevocationsChanged(ARGV[3]) end
return removed == tonumber(ARGV[2]) and 1 or 0
