#!lua flags=no-writes
-- ARGV: number, nonce. Returns the text of a revocation, or nil.
local text, nonce = revocationAt(ARGV[1])
return nonce == ARGV[2] and text or false
