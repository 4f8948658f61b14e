#!lua flags=no-writes
-- All records after a position. ARGV: epoch, seq, nonce, limit, maxChars, number of the last erasure that is known, or ''.
-- Adds to the answer: erasures, changes, the seq and nonce that were reached, the number of the newest erasure, the keys of
-- the erasures after the known one, joined by commas; then seq, record, …
local log = readLog()
if not log then return { 'none' } end
local seq, nonce = ARGV[2], ARGV[3]
local out = logAnswer(resolve(log, ARGV[1], seq, nonce), log)
out[9], out[10], out[11], out[12] = log.erasures, log.changes, seq, nonce
out[13], out[14] = '0', ''
local newest = call('XREVRANGE', ERASURES, '+', '-', 'COUNT', 1)[1]
if newest then out[13] = string.match(newest[1], '^%d+') end
if ARGV[6] ~= '' and ARGV[6] ~= out[13] then
  local keys = {}
  local entries = call('XRANGE', ERASURES, '(' .. ARGV[6] .. '-0', '+')
  for i = 1, #entries do keys[i] = entries[i][2][2] end
  out[14] = table.concat(keys, ',')
end
if out[1] ~= 'ok' then return out end
local seqs, slots = slotsAfter(log, tonumber(seq), tonumber(ARGV[4]))
local processed = addRecords(out, seqs, #seqs, tonumber(ARGV[5]))
if processed > 0 then out[11], out[12] = seqs[processed], nonceOf(slots[processed]) end
return out
