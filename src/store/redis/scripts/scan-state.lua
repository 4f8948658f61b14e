#!lua flags=no-writes
-- ARGV: cursor, pattern, count. Returns the next cursor, and members of STATE with their scores.
return call('ZSCAN', STATE, ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
