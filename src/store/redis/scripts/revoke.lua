#!lua
-- Adds a revocation. ARGV: nonce, tenant or '', createdAtMs, beforeMs, its JSON, the most of one tenant, the most in all.
-- Returns its number, or nil if there are as many as there may be.
local nonce, tenant = ARGV[1], ARGV[2]
-- An answer may have been lost, and the call repeated.
local newest = call('ZREVRANGE', REVOCATIONS, 0, 99)
for i = 1, #newest do
  local number, found = string.match(newest[i], '^(%d+) %d+ %-?%d+ (%w+)')
  if found == nonce then return number end
end
if call('ZCARD', REVOCATIONS) >= tonumber(ARGV[7]) then return false end
if tenant ~= '' and call('ZCARD', REVOCATIONS_OF .. tenant) >= tonumber(ARGV[6]) then return false end
local number = decimal(call('HINCRBY', REVOCATION_FACTS, 'last', 1))
local head = { number, ARGV[3], ARGV[4], nonce, tenant ~= '' and tenant or nil }
addRevocation(number, table.concat(head, ' ') .. '\n' .. ARGV[5], tenant)
return number
