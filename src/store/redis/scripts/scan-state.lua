#!lua flags=no-writes
-- The tickets of a tenant. ARGV: cursor, pattern, count, tenant. Returns the next cursor, and members of STATE with their
-- scores. Of a tenant without state, nothing is scanned: a ticket has an entry of TICKETS, or messages with an id.
if call('EXISTS', TICKETS .. ARGV[4], DEDUPE .. ARGV[4]) == 0 then return { '0', {} } end
return call('ZSCAN', STATE, ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
