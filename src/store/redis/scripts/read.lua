#!lua flags=no-writes
-- The records of rooms after a position. ARGV: epoch, seq, nonce, limit, maxChars, events ('' for all, else each followed
-- by a comma, after a comma), audiences.
-- Adds to the answer: '{seq} {nonce}' of the last record looked at if there are more, else ''; then seq, record, …
local log = readLog()
if not log then return { 'none' } end
local out = logAnswer(resolve(log, ARGV[1], ARGV[2], ARGV[3]), log)
if out[1] ~= 'ok' then return out end
local limit, events = tonumber(ARGV[4]), ARGV[6]
local rows = events == '' and limit or FILTERED
local seqs = seqsAfter(7, tonumber(ARGV[2]), rows + 1)
local kept, looked = keepEvents(seqs, math.min(rows, #seqs), events, limit)
out[9] = ''
local processed = addRecords(out, kept, #kept, tonumber(ARGV[5]))
local last = processed < #kept and kept[processed] or seqs[looked]
if last and last ~= seqs[#seqs] then out[9] = last .. ' ' .. nonceAt(tonumber(last)) end
return out
