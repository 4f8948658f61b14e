-- Revocations. Each is a text: number, createdAtMs, beforeMs, nonce and tenant (or nothing), separated by spaces; then a
-- line feed, and JSON that no script reads: `sub` and `jti`.

-- Sorted set of these texts by number; by tenant, a sorted set of numbers; and a hash: last (the number of the newest
-- one) and changed (a text that is another one whenever a revocation is removed or loses its ids).
local REVOCATIONS = PREFIX .. 'revocations'
local REVOCATIONS_OF = PREFIX .. 'revocations:'
local REVOCATION_FACTS = PREFIX .. 'revocation-facts'

-- Returns nil if there is no revocation with this number; and its nonce and tenant.
local function revocationAt(number)
  local text = call('ZRANGEBYSCORE', REVOCATIONS, number, number)[1]
  if not text then return nil end
  local nonce, tenant = string.match(text, '^%d+ %d+ %-?%d+ (%w+) ?([^\n]*)\n')
  return text, nonce, tenant
end

local function addRevocation(number, text, tenant)
  call('ZADD', REVOCATIONS, number, text)
  if tenant ~= '' then call('ZADD', REVOCATIONS_OF .. tenant, number, number) end
end

local function removeRevocation(number, text, tenant)
  call('ZREM', REVOCATIONS, text)
  if tenant ~= '' then call('ZREM', REVOCATIONS_OF .. tenant, number) end
end

-- `text`: a fresh one.
local function noteRevocationsChanged(text) call('HSET', REVOCATION_FACTS, 'changed', text) end
