#!lua flags=no-writes
-- The newest records of rooms. ARGV: limit, maxChars, events as for read.lua, the seq before which they lie or '',
-- audiences. Adds to the answer: seq, record, …, newest first.
local log = readLog()
if not log then return { 'none' } end
local out = logAnswer('ok', log)
local limit, events = tonumber(ARGV[1]), ARGV[3]
local rows = events == '' and limit or FILTERED
local seqs = newestSeqs(5, rows, tonumber(ARGV[4]))
local kept = keepEvents(seqs, math.min(rows, #seqs), events, limit)
addRecords(out, kept, #kept, tonumber(ARGV[2]))
return out
