#!lua
-- Converts names of messages of format 1. ARGV: tenant, or '' when all are converted; the cursor, number of names to look at
-- now. Returns the next cursor.
local log = readLog()
if not log or not log.upgrade then return '0' end
if ARGV[1] == '' then
  call('HDEL', META, 'upgrade')
  return '0'
end
local key = DEDUPE .. ARGV[1]
local found = call('HSCAN', key, ARGV[2], 'COUNT', ARGV[3])
for i = 1, #found[2], 2 do
  local field, name = found[2][i], found[2][i + 1]
  if string.sub(field, 1, 2) == 'm,' then
    local h = readHeader(firstOf(name))
    if h then call('HSETNX', key, 'i,' .. h.ticket .. ',' .. string.sub(field, 3), name) end
    call('HDEL', key, field)
  end
end
return found[1]
