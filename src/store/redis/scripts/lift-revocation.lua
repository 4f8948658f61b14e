#!lua flags=allow-oom
-- ARGV: number, nonce, a fresh text. Returns 1 if there was such a revocation.
local text, nonce, tenant = revocationAt(ARGV[1])
if nonce ~= ARGV[2] then return 0 end
removeRevocation(ARGV[1], text, tenant)
noteRevocationsChanged(ARGV[3])
return 1
