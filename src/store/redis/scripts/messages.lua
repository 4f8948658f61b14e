#!lua flags=no-writes
-- A step of a page of messages. ARGV: tenant, ticket, 'asc' or 'desc', the seq to continue from or '', number of
-- messages, maxChars. Adds to the answer: the seq to continue from ('' at the end), then seq, record, …
local log = readLog()
if not log then return { 'none' } end
local out = logAnswer('ok', log)
local key, from, want = MESSAGES .. ARGV[1] .. ',' .. ARGV[2], ARGV[4], tonumber(ARGV[5])
-- Messages that one step examines: deleted ones are passed over.
local STEP = 1024
local changed, shown, firsts = CHANGED .. ARGV[1] .. ',' .. ARGV[2], {}, {}
local hasChanges = call('EXISTS', changed) == 1
local examined, last, ended = 0, nil, false
local at = ARGV[3] == 'asc' and (from == '' and 0 or countThrough(key, tonumber(from)))
  or (from == '' and call('LLEN', key) or countThrough(key, tonumber(from) - 1))
while #firsts < want and examined < STEP and not ended do
  local chunk, seqs = math.min(hasChanges and math.max(want, 64) or want, STEP), {}
  if ARGV[3] == 'asc' then
    seqs = call('LRANGE', key, at, at + chunk - 1)
    at = at + chunk
  elseif at > 0 then
    local got = call('LRANGE', key, math.max(0, at - chunk), at - 1)
    for i = 1, #got do seqs[i] = got[#got + 1 - i] end
    at = at - chunk
  end
  ended = #seqs < chunk
  examined = examined + #seqs
  local changes = hasChanges and #seqs > 0 and call('HMGET', changed, unpack(seqs)) or {}
  for i = 1, #seqs do
    local message = parseChange(seqs[i], changes[i])
    last = seqs[i]
    if not message.deleted then
      firsts[#firsts + 1] = seqs[i]
      shown[#shown + 1] = message.shown
      if #firsts == want then
        ended = ended and i == #seqs
        break
      end
    end
  end
end
out[9] = ''
local processed = addRecords(out, shown, #shown, tonumber(ARGV[6]), firsts)
if processed < #firsts then out[9] = firsts[processed] elseif not ended then out[9] = last end
return out
