#!lua flags=no-writes
-- A step of a page of messages. ARGV: tenant, ticket, 'asc' or 'desc', the seq to continue from or '', number of
-- messages, maxChars. Adds to the answer: the seq to continue from ('' at the end), then seq, record, …
local log = readLog()
if not log then return { 'none' } end
local out = logAnswer('ok', log)
local key, from, want = MESSAGES .. ARGV[1] .. ',' .. ARGV[2], ARGV[4], tonumber(ARGV[5])
local seqs = {}
if ARGV[3] == 'asc' then
  local first = from == '' and 0 or countThrough(key, tonumber(from))
  seqs = call('LRANGE', key, first, first + want - 1)
else
  local past = from == '' and call('LLEN', key) or countThrough(key, tonumber(from) - 1)
  if past > 0 then
    local got = call('LRANGE', key, math.max(0, past - want), past - 1)
    for i = 1, #got do seqs[i] = got[#got + 1 - i] end
  end
end
out[9] = ''
local processed = addRecords(out, seqs, #seqs, tonumber(ARGV[6]))
if processed < #seqs or #seqs == want then out[9] = seqs[processed] end
return out
