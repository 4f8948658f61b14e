#!lua flags=no-writes
-- The newest records of rooms. ARGV: limit, maxChars, the seq before which they lie or '', audiences. Adds to the answer: seq, record, …, newest first.
local log = readLog()
if not log then return { 'none' } end
local out = logAnswer('ok', log)
local limit = tonumber(ARGV[1])
local seqs = newestSeqs(4, limit, tonumber(ARGV[3]))
addRecords(out, seqs, math.min(limit, #seqs), tonumber(ARGV[2]))
return out
