/** The scripts that read: the log by place, by audience and for the tail, the state, and what the log holds. */
import { READS, script } from './script.ts';

/** ARGV: epoch, seq, nonce. */
export const RESOLVE = script(
  READS,
  `
local m = meta()
if not m then return { 'none' } end
return answer(place(m, ARGV[1], ARGV[2], ARGV[3]), m)
`,
);

/** ARGV: epoch, seq, nonce, limit, maxChars, audiences. Answers also '1' when there are more, then seq, record, … */
export const READ = script(
  READS,
  `
local m = meta()
if not m then return { 'none' } end
local out = answer(place(m, ARGV[1], ARGV[2], ARGV[3]), m)
if out[1] ~= 'ok' then return out end
local limit = tonumber(ARGV[4])
local seqs = seqsAfter(6, tonumber(ARGV[2]), limit + 1)
local looked = gather(out, seqs, math.min(limit, #seqs), tonumber(ARGV[5]))
table.insert(out, 9, looked < #seqs and '1' or '0')
return out
`,
);

/** ARGV: limit, maxChars, audiences. Answers seq, record, …, newest first. */
export const NEWEST = script(
  READS,
  `
local m = meta()
if not m then return { 'none' } end
local out = answer('ok', m)
local limit = tonumber(ARGV[1])
local seqs = newestSeqs(3, limit)
gather(out, seqs, math.min(limit, #seqs), tonumber(ARGV[2]))
return out
`,
);

/**
 * ARGV: epoch, seq, nonce, limit, maxChars. Answers also erasures, changes, the position read to, its nonce,
 * then seq, record, …
 */
export const TAIL = script(
  READS,
  `
local m = meta()
if not m then return { 'none' } end
local out = answer(place(m, ARGV[1], ARGV[2], ARGV[3]), m)
out[9], out[10], out[11], out[12] = m.erasures, m.changes, ARGV[2], ARGV[3]
if out[1] ~= 'ok' then return out end
local seqs, slots = following(tonumber(ARGV[2]), tonumber(ARGV[4]))
local looked = gather(out, seqs, #seqs, tonumber(ARGV[5]))
if looked > 0 then out[11], out[12] = seqs[looked], nonceOf(slots[looked]) end
return out
`,
);

/**
 * ARGV: tenant, status or '', agreement or '', updatedAfter or '', the entry prefix to go on before or '', wanted
 * entries, maxChars, number of ticket ids or -1, the ids, number of agreement ids or -1, the ids (tickets of either).
 * Answers also where to go on (or '' when all was looked at), then prefix, record, …, newest first. It looks at a
 * bounded number of entries, so that a rare status in a large tenant does not hold up appends.
 */
export const TICKETS = script(
  READS,
  `
local m = meta()
if not m then return { 'none' } end
local out = answer('ok', m)
local tenant, status, agreement, after, from, want = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local p = 8
local function ids()
  local n = tonumber(ARGV[p])
  local list = n >= 0 and {} or nil
  for i = 1, n do list[i] = ARGV[p + i] end
  p = p + 1 + math.max(n, 0)
  return list
end
local tickets, agreements = ids(), ids()

local parsed = {}
local function parse(entry)
  parsed[entry] = parsed[entry] or ticketEntry(entry)
  return parsed[entry]
end
local function newerFirst(a, b)
  local x, y = parse(a), parse(b)
  if x.seconds ~= y.seconds then return x.seconds > y.seconds end
  if x.fraction ~= y.fraction then return x.fraction > y.fraction end
  return x.seq > y.seq
end
local function prefix(entry) return string.match(entry, '^[^,]*,%d+') end

local picked = {}
out[9] = ''
local function pick(entry)
  if #picked == want or (status ~= '' and parse(entry).status ~= status) then return end
  if agreement == '' or parse(entry).agreement == agreement then picked[#picked + 1] = entry end
end

local wanted = agreements
-- One agreement asked for by a token that is not narrowed: its set is the shortest way.
if agreement ~= '' and not tickets and not agreements then wanted = { agreement } end
if wanted then
  tickets = tickets or {}
  for i = 1, #wanted do
    local members = call('SMEMBERS', P .. 'agreement:' .. tenant .. ',' .. wanted[i])
    for j = 1, #members do tickets[#tickets + 1] = members[j] end
  end
end

if tickets then
  local entries, known = {}, {}
  for at = 1, #tickets, 500 do
    local got = call('HMGET', P .. 'tickets:' .. tenant, unpack(tickets, at, math.min(at + 499, #tickets)))
    for i = 1, #got do
      local entry = got[i]
      if entry and not known[entry] and (after == '' or newerFirst(entry, after .. ',9999999999999999,,,'))
        and (from == '' or newerFirst(from .. ',,,', entry)) then
        known[entry] = true
        entries[#entries + 1] = entry
      end
    end
  end
  table.sort(entries, newerFirst)
  for i = 1, #entries do pick(entries[i]) end
else
  -- A comma sorts before the digits, so 'X-' lies right after all entries of the instant X and before any later one.
  local low = after == '' and '-' or '(' .. after .. '-'
  local high = from == '' and '+' or '(' .. from
  local looked = 0
  while true do
    local found = call('ZRANGE', P .. 'recent:' .. tenant, high, low, 'BYLEX', 'REV', 'LIMIT', 0, want)
    for i = 1, #found do pick(found[i]) end
    looked = looked + #found
    if #found < want or #picked == want then break end
    high = '(' .. found[#found]
    if looked >= 2000 then
      out[9] = prefix(found[#found])
      break
    end
  end
end

local seqs, prefixes = {}, {}
for i = 1, #picked do seqs[i], prefixes[i] = text(tonumber(parse(picked[i]).seq)), prefix(picked[i]) end
local looked = gather(out, seqs, #seqs, tonumber(ARGV[7]), prefixes)
if looked < #seqs then out[9] = prefixes[looked] end
return out
`,
);

/** ARGV: tenant, ticket. Answers the record or false. */
export const TICKET = script(
  READS,
  `
local m = meta()
if not m then return { 'none' } end
local out = answer('ok', m)
local entry = call('HGET', P .. 'tickets:' .. ARGV[1], ARGV[2])
out[9] = entry and call('GET', P .. 'record:' .. text(tonumber(ticketEntry(entry).seq)))
return out
`,
);

/**
 * ARGV: tenant, ticket, 'asc' or 'desc', seq to go on from or '', wanted entries, maxChars. Answers also where to go on,
 * or '' when these are all that were wanted, then seq, record, …
 */
export const MESSAGES = script(
  READS,
  `
local m = meta()
if not m then return { 'none' } end
local out = answer('ok', m)
local key, from, want = P .. 'messages:' .. ARGV[1] .. ',' .. ARGV[2], ARGV[4], tonumber(ARGV[5])
local seqs = {}
if ARGV[3] == 'asc' then
  local first = from == '' and 0 or position(key, tonumber(from))
  seqs = call('LRANGE', key, first, first + want - 1)
else
  local past = from == '' and call('LLEN', key) or position(key, tonumber(from) - 1)
  if past > 0 then
    local got = call('LRANGE', key, math.max(0, past - want), past - 1)
    for i = 1, #got do seqs[i] = got[#got + 1 - i] end
  end
end
out[9] = ''
local looked = gather(out, seqs, #seqs, tonumber(ARGV[6]))
if looked < #seqs then out[9] = seqs[looked] end
return out
`,
);

/** ARGV: as ZSCAN. It runs on the writer, behind all writes before it. */
export const SCAN_STATE = script(READS, `return call('ZSCAN', unpack(ARGV))`);

/** Answers the number of records and when the oldest was accepted, or false. */
export const STATS = script(
  READS,
  `
local m = meta()
if not m then return { 0 } end
if m.records == 0 then return { 0 } end
local _, slots = following(m.trimmed, 1)
local newest = call('XREVRANGE', FEED, '+', '-', 'COUNT', 1)[1]
return { m.records, text(timeOf(slots[1])), text(timeOf(string.sub(newest[2][2], -SLOT))) }
`,
);
