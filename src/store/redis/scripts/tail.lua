#!lua flags=no-writes
-- All records after a position. ARGV: epoch, seq, nonce, limit, maxChars.
-- Adds to the answer: erasures, changes, the seq and nonce that were reached, then seq, record, …
local log = readLog()
if not log then return { 'none' } end
local seq, nonce = ARGV[2], ARGV[3]
local out = logAnswer(resolve(log, ARGV[1], seq, nonce), log)
out[9], out[10], out[11], out[12] = log.erasures, log.changes, seq, nonce
if out[1] ~= 'ok' then return out end
local seqs, slots = slotsAfter(tonumber(seq), tonumber(ARGV[4]))
local processed = addRecords(out, seqs, #seqs, tonumber(ARGV[5]))
if processed > 0 then out[11], out[12] = seqs[processed], nonceOf(slots[processed]) end
return out
