#!lua flags=no-writes
-- ARGV: epoch, seq, nonce.
local log = readLog()
if not log then return { 'none' } end
return logAnswer(resolve(log, ARGV[1], ARGV[2], ARGV[3]), log)
