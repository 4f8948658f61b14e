#!lua flags=no-writes
-- The records of rooms after a position. ARGV: epoch, seq, nonce, limit, maxChars, audiences.
-- Adds to the answer: '1' if there are more records, else '0'; then seq, record, …
local log = readLog()
if not log then return { 'none' } end
local out = logAnswer(resolve(log, ARGV[1], ARGV[2], ARGV[3]), log)
if out[1] ~= 'ok' then return out end
local limit = tonumber(ARGV[4])
local seqs = seqsAfter(6, tonumber(ARGV[2]), limit + 1)
local processed = addRecords(out, seqs, math.min(limit, #seqs), tonumber(ARGV[5]))
table.insert(out, 9, processed < #seqs and '1' or '0')
return out
