#!lua flags=no-writes
-- A page of revocations, newest first. ARGV: the number before which they lie or '', limit, '1' for those of all tenants,
-- else '', tenants. Returns their texts.
local limit, from = tonumber(ARGV[2]), ARGV[1] == '' and '+inf' or '(' .. ARGV[1]
if ARGV[3] == '1' then return call('ZREVRANGEBYSCORE', REVOCATIONS, from, '-inf', 'LIMIT', 0, limit) end
local taken = {}
local found = merge(#ARGV - 3, limit, function(i, n)
  local skip = taken[i] or 0
  taken[i] = skip + n
  local got = call('ZREVRANGEBYSCORE', REVOCATIONS_OF .. ARGV[3 + i], from, '-inf', 'LIMIT', skip, n)
  return numbers(got), #got < n
end, function(a, b) return a > b end)
local texts = {}
for i = 1, math.min(limit, #found) do texts[i] = revocationAt(found[i]) end
return texts
