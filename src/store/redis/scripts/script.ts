/**
 * The Lua that Redis runs for the store, and what all of it shares: each script is one atomic step, and reads take bounds,
 * rows and head from the same moment. The scripts themselves: redis-scripts-append.ts, -read.ts, -keep.ts.
 *
 * Keys, all under one hash tag, so that a log is one slot:
 *
 *   meta            hash: epoch, keying, last + nonce (the head), trimmed + trimmedNonce, and counters
 *   feed            stream: one entry per script that appended, its id the first seq (`{seq}-0`); its records follow
 *                   with no gap, each a slot of nonce (4) and time of acceptance (16 digits). A slot without a
 *                   `record:` is the tombstone of an erased record, so that its cursor still names its place
 *   record:{seq}    string: header and payload (redis.ts encodes); shared by the log and the state, and deleted when
 *                   neither needs it: the log needs what lies after `trimmed`, the state what it names
 *   room:{audience} list of seqs, rising: what `read` merges. A list costs 10 bytes a record and an append no search;
 *                   an emptied one is no key, so idle rooms cost nothing
 *   tickets:{tenant}              hash ticket → entry `updatedAt,seq,ticket,agreement,status`
 *   recent:{tenant}               sorted set of the same entries, in byte order
 *   agreement:{tenant},{agreement}   set of tickets
 *   messages:{tenant},{ticket}    list of seqs, rising
 *   dedupe:{tenant}               hash: `m,{messageId}` and `p,{ticket},{providerMessageId}` → `{seq} {nonce}`
 *   state           sorted set `tenant,ticket` by the time of its last event
 *   idempotency, idempotency:{key};  sessions, session:{pid};  secrets
 *   nodes           sorted set of node ids by the time until which they live; nodes:facts, a hash of what they told
 *   changes         stream of at most one entry that wakes tails after trims and erasures
 *
 * Ids hold no comma (protocol §2), so that composed keys do not clash. Lua compares strings by the server's locale:
 * only strings of digits are compared here. Numbers are doubles: exact to 2^53, printed with %.0f.
 */
import { createHash } from 'node:crypto';

export const PREFIX = '{roomcast}:';
export const META_KEY = `${PREFIX}meta`;
export const FEED_KEY = `${PREFIX}feed`;
export const CHANGES_KEY = `${PREFIX}changes`;
export const STATE_KEY = `${PREFIX}state`;

export interface Script {
  readonly text: string;
  readonly sha: string;
}

const COMMON = `
local P = '${PREFIX}'
local META, FEED = '${META_KEY}', '${FEED_KEY}'
local call = redis.call

local function text(seq) return string.format('%.0f', seq) end

local function meta()
  local m = call('HMGET', META, 'epoch', 'keying', 'last', 'nonce', 'trimmed', 'trimmedNonce', 'changes', 'erasures',
    'records', 'tombstones')
  if not m[1] then return nil end
  return { epoch = m[1], keying = m[2], last = tonumber(m[3]), nonce = m[4], trimmed = tonumber(m[5]),
    trimmedNonce = m[6], changes = m[7], erasures = m[8], records = tonumber(m[9]), tombstones = tonumber(m[10]) }
end

-- The log of this Redis; a Redis without one gets a new one, of another epoch than any before.
local function open(epoch, keying)
  local m = meta()
  if m then return m end
  call('DEL', FEED)
  call('HSET', META, 'epoch', epoch, 'keying', keying, 'last', '0', 'nonce', '0000', 'trimmed', '0',
    'trimmedNonce', '0000', 'changes', '0', 'erasures', '0', 'records', '0', 'tombstones', '0')
  return meta()
end

local SLOT = 20

-- The slots after a seq, at most \`limit\` and the rest of one entry: their seqs, and the slots.
local function following(seq, limit)
  local seqs, found = {}, {}
  local within = call('XREVRANGE', FEED, text(seq) .. '-0', '-', 'COUNT', 1)[1]
  local from = within and within[1] or '-'
  while #seqs < limit do
    local entries = call('XRANGE', FEED, from, '+', 'COUNT', 32)
    for i = 1, #entries do
      local first, slots = tonumber(string.sub(entries[i][1], 1, -3)), entries[i][2][2]
      for at = math.max(0, seq + 1 - first), #slots / SLOT - 1 do
        local n = #seqs + 1
        seqs[n] = text(first + at)
        found[n] = string.sub(slots, at * SLOT + 1, at * SLOT + SLOT)
      end
      if #seqs >= limit then break end
    end
    if #entries < 32 then break end
    from = '(' .. entries[#entries][1]
  end
  return seqs, found
end
local function nonceOf(slot) return string.sub(slot, 1, 4) end
local function timeOf(slot) return tonumber(string.sub(slot, 5)) end

-- The oldest record kept. Tombstones before it are stepped over, some of them: past that, one stands for it.
local function oldest(m)
  local seqs, slots = following(m.trimmed, m.tombstones > 0 and 64 or 1)
  local at = 1
  if m.tombstones > 0 then
    while seqs[at] and at < 64 and call('EXISTS', P .. 'record:' .. seqs[at]) == 0 do at = at + 1 end
  end
  if not seqs[at] then return text(m.last), m.nonce end
  return seqs[at], nonceOf(slots[at])
end

-- Every answer about the log begins with these eight: status, epoch, head, floor, oldest.
local function answer(status, m)
  return { status, m.epoch, text(m.last), m.nonce, text(m.trimmed), m.trimmedNonce, oldest(m) }
end

-- Where a cursor stands. Of what was trimmed only the last nonce is known.
local function place(m, epoch, seq, nonce)
  local n = tonumber(seq)
  if epoch ~= m.epoch or n > m.last then return 'unknown' end
  if n == m.last then return nonce == m.nonce and 'ok' or 'unknown' end
  if n == 0 and nonce ~= '0000' then return 'unknown' end
  if n < m.trimmed then return 'expired' end
  if n == m.trimmed then return nonce == m.trimmedNonce and 'ok' or 'unknown' end
  local entry = call('XREVRANGE', FEED, seq .. '-0', '-', 'COUNT', 1)[1]
  if not entry then return 'unknown' end
  local at = n - tonumber(string.sub(entry[1], 1, -3))
  return string.sub(entry[2][2], at * SLOT + 1, at * SLOT + 4) == nonce and 'ok' or 'unknown'
end

-- The header of a record, nil where erased. A payload may be a thousand times as long, and stays where it is.
local function header(seq)
  local key = P .. 'record:' .. seq
  local record = call('GETRANGE', key, 0, 1023)
  if record == '' then return nil end
  local past = string.find(record, '\\n', 1, true)
  if not past then
    record = call('GET', key)
    past = string.find(record, '\\n', 1, true)
  end
  return cjson.decode(string.sub(record, string.find(record, '[', 1, true), past - 1))
end

local function characters(record) return tonumber(string.match(record, '^%d+')) end
local function charactersOf(out, before)
  local sum = 0
  for i = before + 2, #out, 2 do sum = sum + characters(out[i]) end
  return sum
end

-- Appends records in the order of seqs to out, as seq (or its name in names) and value, until the payloads pass
-- maxChars. Returns how many seqs were looked at.
local function gather(out, seqs, count, maxChars, names)
  local bytes, chars, at, chunk = 0, nil, 1, 1
  local before = #out
  while at <= count do
    -- Growing, so that no more is read than about twice what is returned, however large records are.
    local to = math.min(at + chunk - 1, count)
    chunk = math.min(2 * chunk, 32)
    local keys = {}
    for i = at, to do keys[#keys + 1] = P .. 'record:' .. seqs[i] end
    local values = call('MGET', unpack(keys))
    for i = 1, #values do
      if values[i] then
        out[#out + 1] = (names or seqs)[at + i - 1]
        out[#out + 1] = values[i]
        -- Never more characters than bytes: most reads end without counting them.
        bytes = bytes + #values[i]
        if bytes > maxChars then
          if not chars then chars = charactersOf(out, before) else chars = chars + characters(values[i]) end
          if chars > maxChars then return at + i - 1 end
        end
      end
    end
    at = to + 1
  end
  return count
end

-- How many seqs of a rising list are at most \`seq\`: the index of the first one after it.
local function position(key, seq)
  local low, high = 0, call('LLEN', key)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if tonumber(call('LINDEX', key, middle)) <= seq then low = middle + 1 else high = middle end
  end
  return low
end

-- Numbers of a list of strings, in reverse if asked.
local function numbers(list, backwards)
  local out, n = {}, #list
  for i = 1, n do out[i] = tonumber(list[backwards and n + 1 - i or i]) end
  return out
end

local function ascending(a, b) return a < b end
local function descending(a, b) return a > b end

-- The first \`want\` numbers of k sorted sources, each once (and some of what follows). fetch(i, n) gives the next n or
-- more of source i, and whether these were all. A source is asked again only while it may hold something before the
-- want-th number found.
local function merge(k, want, fetch, before)
  local chunk = k == 1 and want or math.max(8, math.ceil(want / k) + 1)
  local reached, drained, found, seen = {}, {}, {}, {}
  while true do
    local bound, horizon = found[want], nil
    for i = 1, k do
      if not drained[i] and (not bound or not reached[i] or before(reached[i], bound)) then
        local got
        got, drained[i] = fetch(i, chunk)
        for j = 1, #got do
          if not seen[got[j]] then
            seen[got[j]] = true
            found[#found + 1] = got[j]
          end
        end
        reached[i] = got[#got] or reached[i]
      end
      if not drained[i] and (not horizon or before(reached[i], horizon)) then horizon = reached[i] end
    end
    if k > 1 then table.sort(found, before) end
    if not horizon or (found[want] and not before(horizon, found[want])) then return found end
    chunk = chunk * 2
  end
end

-- The seqs after \`seq\` that any of the audiences in ARGV[first..] has, the first \`want\` at least.
local function seqsAfter(first, seq, want)
  local indexes = {}
  local found = merge(#ARGV - first + 1, want, function(i, n)
    local key = P .. 'room:' .. ARGV[first + i - 1]
    if not indexes[i] then
      -- Most readers are but a few records behind: one look at the end, no search.
      local got = numbers(call('LRANGE', key, -16, -1))
      if #got < 16 or got[1] <= seq then
        local after = {}
        for j = 1, #got do
          if got[j] > seq then after[#after + 1] = got[j] end
        end
        return after, true
      end
      indexes[i] = position(key, seq)
    end
    local got = numbers(call('LRANGE', key, indexes[i], indexes[i] + n - 1))
    indexes[i] = indexes[i] + n
    return got, #got < n
  end, ascending)
  for i = 1, #found do found[i] = text(found[i]) end
  return found
end

-- The newest \`want\` seqs of the audiences in ARGV[first..] at least, newest first.
local function newestSeqs(first, want)
  local taken = {}
  local found = merge(#ARGV - first + 1, want, function(i, n)
    local skip = taken[i] or 0
    taken[i] = skip + n
    local got = call('LRANGE', P .. 'room:' .. ARGV[first + i - 1], -(skip + n), -(skip + 1))
    return numbers(got, true), #got < n
  end, descending)
  for i = 1, #found do found[i] = text(found[i]) end
  return found
end

-- Entry of tickets: updatedAt (12 digits, dot, fraction), seq (16 digits), ticket, agreement, status.
local function ticketEntry(entry)
  local seconds, fraction, seq, ticket, agreement, status = string.match(entry, '^(%d+)%.(%d*),(%d+),([^,]*),([^,]*),(.*)$')
  return { seconds = seconds, fraction = fraction, seq = seq, ticket = ticket, agreement = agreement, status = status }
end

local function wake()
  call('XADD', P .. 'changes', 'MAXLEN', 1, text(call('HINCRBY', META, 'changes', 1)) .. '-0', 'n', '')
end

local function unlink(keys)
  if #keys > 0 then call('UNLINK', unpack(keys)) end
end

-- A record that the log has trimmed lives only for the state. Returns 1 when it is gone.
local function releaseRecord(m, seq)
  if tonumber(seq) > m.trimmed then return 0 end
  return call('UNLINK', P .. 'record:' .. text(tonumber(seq)))
end

local function forgetIdempotency(key)
  if key ~= '' then
    call('UNLINK', P .. 'idempotency:' .. key)
    call('ZREM', P .. 'idempotency', key)
  end
end

-- Forgets the state of a ticket, its messages first, at most \`budget\` of them. Returns how many entries it forgot,
-- whether all is forgotten, and how many records are gone with it.
local function forgetTicket(m, tenant, ticket, budget, erasing)
  local key = P .. 'messages:' .. tenant .. ',' .. ticket
  local seqs = call('LRANGE', key, 0, budget - 1)
  local gone = 0
  for i = 1, #seqs do
    local h = header(seqs[i])
    if h then
      if h[9] ~= '' then call('HDEL', P .. 'dedupe:' .. tenant, 'm,' .. h[9]) end
      if h[10] ~= '' then call('HDEL', P .. 'dedupe:' .. tenant, 'p,' .. ticket .. ',' .. h[10]) end
      if erasing then forgetIdempotency(h[11]) end
    end
    gone = gone + releaseRecord(m, seqs[i])
  end
  if #seqs > 0 then call('LPOP', key, #seqs) end
  if #seqs == budget then return #seqs, false, gone end
  local entry = call('HGET', P .. 'tickets:' .. tenant, ticket)
  if entry then
    local known = ticketEntry(entry)
    if erasing then
      local h = header(text(tonumber(known.seq)))
      if h then forgetIdempotency(h[11]) end
    end
    call('HDEL', P .. 'tickets:' .. tenant, ticket)
    call('ZREM', P .. 'recent:' .. tenant, entry)
    if known.agreement ~= '' then call('SREM', P .. 'agreement:' .. tenant .. ',' .. known.agreement, ticket) end
    gone = gone + releaseRecord(m, known.seq)
  end
  call('ZREM', P .. 'state', tenant .. ',' .. ticket)
  return #seqs + 1, true, gone
end
`;

/** Refused before it starts when Redis is out of memory, a replica, or cannot write its files: nothing is half done. */
export const WRITES = '';
/** Makes room, or takes none: hence also when there is none. */
export const WHEN_FULL = ' flags=allow-oom';
export const READS = ' flags=no-writes';

export function script(flags: string, body: string): Script {
  const text = `#!lua${flags}\n${COMMON}${body}`;
  return { text, sha: createHash('sha1').update(text).digest('hex') };
}
