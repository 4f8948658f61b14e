#!lua flags=no-writes
-- Revocations after a position, oldest first. ARGV: changed, number and nonce of the last one known or '0' and '', slice.
-- Starts again from the first if some were removed since, or if the position is of another log. Returns '1' if it does,
-- else ''; changed; then texts.
local number, changed = ARGV[2], call('HGET', REVOCATION_FACTS, 'changed') or ''
local isKnown = ARGV[1] == changed
-- After a failover, the last one known may be lost, and its number taken by another one.
if isKnown and number ~= '0' then
  local _, nonce = revocationAt(number)
  isKnown = nonce == ARGV[3]
end
if not isKnown then number = '0' end
local texts = call('ZRANGEBYSCORE', REVOCATIONS, '(' .. number, '+inf', 'LIMIT', 0, tonumber(ARGV[4]))
table.insert(texts, 1, changed)
table.insert(texts, 1, isKnown and '' or '1')
return texts
