#!lua flags=allow-oom
-- Takes the ids out of revocations of an erased tenant. ARGV: tenant, the name in its place, a fresh text, then number,
-- text, new text, … Skips one that has changed meanwhile.
for i = 4, #ARGV, 3 do
  local number = ARGV[i]
  if revocationAt(number) == ARGV[i + 1] then
    removeRevocation(number, ARGV[i + 1], ARGV[1])
    addRevocation(number, ARGV[i + 2], ARGV[2])
  end
end
noteRevocationsChanged(ARGV[3])
