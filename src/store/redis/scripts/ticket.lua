#!lua flags=no-writes
-- The newest record of a ticket. ARGV: tenant, ticket. Adds to the answer: the record, or false.
local log = readLog()
if not log then return { 'none' } end
local out = logAnswer('ok', log)
local entry = call('HGET', TICKETS .. ARGV[1], ARGV[2])
out[9] = entry and call('GET', RECORD .. decimal(tonumber(parseEntry(entry).seq)))
return out
