/**
 * The Lua that Redis runs for the store: each script is one atomic step, and reads take bounds, rows and head from the
 * same moment. Keys, all under one hash tag, so that a log is one slot:
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
 * Ids hold no comma (CONTRACT §2), so that composed keys do not clash. Lua compares strings by the server's locale:
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
const WRITES = '';
/** Makes room, or takes none: hence also when there is none. */
const WHEN_FULL = ' flags=allow-oom';
const READS = ' flags=no-writes';

function script(flags: string, body: string): Script {
  const text = `#!lua${flags}\n${COMMON}${body}`;
  return { text, sha: createHash('sha1').update(text).digest('hex') };
}

/** ARGV: epoch for a new log, keying. Also the probe of whether writes are taken. */
export const OPEN = script(
  WRITES,
  `
local m = open(ARGV[1], ARGV[2])
local out = answer('ok', m)
out[9] = m.keying
return out
`,
);

/**
 * ARGV: epoch for a new log, keying, and what the events name, each once and by tenant, so that each key takes one
 * command however many events (redis-append.ts, the plan):
 *   number of tenants with dedupe ids; each: tenant, number, fields of dedupe:{tenant}
 *   number of tenants with tickets; each: tenant, number, tickets
 *   1, '', number of audiences, the audiences; or 0
 * then the number of requests; each: idempotency key or '', fingerprint, acceptedAtMs (16 digits), number of events, number of their
 * arguments; per event nonce, record, kind ('t', 'm' or ''), number of audiences, and by their places above, from 1: the
 * audiences; of 'm' the ticket, the field of messageId and of providerMessageId, or 0; of 't' the ticket, then its
 * agreement or '', status, updatedAt.
 * Answers 'ok', epoch, and per request 'conflict', or lines: 'repeat' or marks (+ new, = repeat), then '{seq} {nonce}' of
 * each event.
 */
export const APPEND = script(
  WRITES,
  `
local m = open(ARGV[1], ARGV[2])
if m.keying ~= ARGV[2] then return { 'keying', m.keying } end
local time = call('TIME')
-- The clock keeps a promoted replica that lost its tail from giving out the lost seqs again.
local first = math.max(m.last + 1, tonumber(time[1]) * 1000000 + tonumber(time[2]))
local last, lastNonce, slots = first - 1, nil, {}
local p = 3

-- First all is looked up and prepared, then all is written.
local function lookUp(prefix, each)
  local place = 0
  local tenants = tonumber(ARGV[p])
  p = p + 1
  for _ = 1, tenants do
    local tenant, n = ARGV[p], tonumber(ARGV[p + 1])
    local got = call('HMGET', P .. prefix .. tenant, unpack(ARGV, p + 2, p + 1 + n))
    for i = 1, n do each(place + i, tenant, ARGV[p + 1 + i], got[i]) end
    place = place + n
    p = p + 2 + n
  end
  return place
end
local ids, idTenant, idField, idNew = { [0] = false }, {}, {}, {}
local idCount = lookUp('dedupe:', function(i, tenant, field, value)
  ids[i], idTenant[i], idField[i] = value, tenant, field
end)
local stored, current, ticketTenant, ticketId = {}, {}, {}, {}
local ticketCount = lookUp('tickets:', function(i, tenant, ticket, value)
  stored[i] = value and ticketEntry(value)
  if value then stored[i].entry = value end
  current[i], ticketTenant[i], ticketId[i] = stored[i], tenant, ticket
end)
local rooms = {}
if ARGV[p] == '1' then
  local n = tonumber(ARGV[p + 2])
  for i = 1, n do rooms[i] = { 'RPUSH', P .. 'room:' .. ARGV[p + 2 + i] } end
  p = p + 2 + n
end
p = p + 1
local values, keys, messages, active = { 'MSET' }, {}, {}, {}

-- Returns the record's place, and whether it is a repeat.
local function append(accepted, moment)
  local nonce, record, kind, from = ARGV[p], ARGV[p + 1], ARGV[p + 2], p + 4
  p = from + tonumber(ARGV[p + 3])
  local past, ticket, messageField, providerField = p, nil, nil, nil
  if kind == 'm' then
    ticket, messageField, providerField = tonumber(ARGV[p]), tonumber(ARGV[p + 1]), tonumber(ARGV[p + 2])
    p = p + 3
    local known = ids[messageField] or ids[providerField]
    if known then return known, true end
  end

  last = last + 1
  lastNonce = nonce
  local seq = text(last)
  local id = seq .. ' ' .. nonce
  slots[#slots + 1] = nonce
  slots[#slots + 1] = moment
  values[#values + 1] = P .. 'record:' .. seq
  values[#values + 1] = record
  for i = from, past - 1 do
    local list = rooms[tonumber(ARGV[i])]
    list[#list + 1] = seq
  end

  if kind == 'm' then
    if messageField > 0 then ids[messageField], idNew[messageField] = id, true end
    if providerField > 0 then ids[providerField], idNew[providerField] = id, true end
    local list = messages[ticket]
    if not list then
      list = { 'RPUSH', P .. 'messages:' .. ticketTenant[ticket] .. ',' .. ticketId[ticket] }
      messages[ticket] = list
    end
    list[#list + 1] = seq
  elseif kind == 't' then
    ticket = tonumber(ARGV[p])
    local known, agreement, updatedAt = current[ticket], ARGV[p + 1], ARGV[p + 3]
    local seconds, fraction = string.match(updatedAt, '^(%d+)%.(%d*)$')
    if not known or known.seconds < seconds or (known.seconds == seconds and known.fraction <= fraction) then
      local place = #seq == 16 and seq or string.format('%016.0f', last)
      local entry = updatedAt .. ',' .. place .. ',' .. ticketId[ticket] .. ',' .. agreement .. ',' .. ARGV[p + 2]
      current[ticket] = { seconds = seconds, fraction = fraction, agreement = agreement, entry = entry }
    end
    p = p + 4
  end
  if ticket then active[ticket] = math.max(active[ticket] or 0, accepted) end
  return id, false
end

local out = { 'ok', m.epoch }
local requests = tonumber(ARGV[p])
p = p + 1
for r = 1, requests do
  local key, fingerprint, moment = ARGV[p], ARGV[p + 1], ARGV[p + 2]
  local events, arguments = tonumber(ARGV[p + 3]), tonumber(ARGV[p + 4])
  p = p + 5
  local known = key ~= '' and (keys[key] and keys[key].value or call('GET', P .. 'idempotency:' .. key))
  if known then
    p = p + arguments
    local head = fingerprint .. '\\n'
    out[#out + 1] = string.sub(known, 1, #head) == head and 'repeat\\n' .. string.sub(known, #head + 1) or 'conflict'
  else
    local accepted = tonumber(moment)
    local list, marks = {}, {}
    for e = 1, events do
      local id, repeated = append(accepted, moment)
      list[e], marks[e] = id, repeated and '=' or '+'
    end
    local lines = table.concat(list, '\\n')
    if key ~= '' then
      keys[key] = { value = fingerprint .. '\\n' .. lines, moment = moment }
      values[#values + 1] = P .. 'idempotency:' .. key
      values[#values + 1] = keys[key].value
    end
    out[#out + 1] = table.concat(marks) .. '\\n' .. lines
  end
end

if lastNonce then
  call('XADD', FEED, text(first) .. '-0', 'n', table.concat(slots))
  call('HSET', META, 'last', text(last), 'nonce', lastNonce, 'records', text(m.records + #slots / 2))
end
if #values > 1 then call(unpack(values)) end
local commands = {}
for i = 1, #rooms do
  if #rooms[i] > 2 then commands[#commands + 1] = rooms[i] end
end
for _, list in pairs(messages) do commands[#commands + 1] = list end

-- Places come by tenant, so that those of one tenant make one command.
local tenant, command
for i = 1, idCount do
  if idNew[i] then
    if tenant ~= idTenant[i] then
      tenant = idTenant[i]
      command = { 'HSET', P .. 'dedupe:' .. tenant }
      commands[#commands + 1] = command
    end
    command[#command + 1] = idField[i]
    command[#command + 1] = ids[i]
  end
end
local remove, add
tenant = nil
for i = 1, ticketCount do
  local old, new = stored[i], current[i]
  if new ~= old then
    if tenant ~= ticketTenant[i] then
      tenant = ticketTenant[i]
      command = { 'HSET', P .. 'tickets:' .. tenant }
      add, remove = { 'ZADD', P .. 'recent:' .. tenant }, nil
      commands[#commands + 1] = command
      commands[#commands + 1] = add
    end
    if old then
      if not remove then
        remove = { 'ZREM', P .. 'recent:' .. tenant }
        commands[#commands + 1] = remove
      end
      remove[#remove + 1] = old.entry
      local seq = tonumber(old.seq)
      if seq <= m.trimmed then commands[#commands + 1] = { 'UNLINK', P .. 'record:' .. text(seq) } end
    end
    command[#command + 1] = ticketId[i]
    command[#command + 1] = new.entry
    add[#add + 1] = '0'
    add[#add + 1] = new.entry
    local before = old and old.agreement or ''
    if before ~= new.agreement then
      local sets = P .. 'agreement:' .. tenant .. ','
      if before ~= '' then commands[#commands + 1] = { 'SREM', sets .. before, ticketId[i] } end
      if new.agreement ~= '' then commands[#commands + 1] = { 'SADD', sets .. new.agreement, ticketId[i] } end
    end
  end
end
local touched = { 'ZADD', P .. 'state', 'GT' }
for i, accepted in pairs(active) do
  touched[#touched + 1] = text(accepted)
  touched[#touched + 1] = ticketTenant[i] .. ',' .. ticketId[i]
end
if #touched > 3 then commands[#commands + 1] = touched end
local remembered = { 'ZADD', P .. 'idempotency' }
for key, known in pairs(keys) do
  remembered[#remembered + 1] = known.moment
  remembered[#remembered + 1] = key
end
if #remembered > 2 then commands[#commands + 1] = remembered end
for i = 1, #commands do call(unpack(commands[i])) end
return out
`,
);

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

/** ARGV: id, facts, for how many ms it lives. Answers the facts of all nodes that live, by the clock of Redis. */
export const MEET = script(
  WRITES,
  `
local NODES, FACTS = P .. 'nodes', P .. 'nodes:facts'
local t = call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local ttl = tonumber(ARGV[3])
call('ZADD', NODES, text(now + ttl), ARGV[1])
call('HSET', FACTS, ARGV[1], ARGV[2])
local gone = call('ZRANGEBYSCORE', NODES, '-inf', text(now))
for i = 1, #gone do
  call('ZREM', NODES, gone[i])
  call('HDEL', FACTS, gone[i])
end
return call('HVALS', FACTS)
`,
);

/** ARGV: trimBeforeMs, maxRecords, most records to trim now. Answers 1 when there is more to do. */
export const TRIM_LOG = script(
  WHEN_FULL,
  `
local m = meta()
if not m then return 0 end
local before, slice = tonumber(ARGV[1]), tonumber(ARGV[3])
local excess = m.records - tonumber(ARGV[2])
local seqs, slots = following(m.trimmed, slice)
if not seqs[1] or (excess <= 0 and timeOf(slots[1]) >= before) then return 0 end

local count = math.min(#seqs, slice)
local gone, kept, rooms, through = {}, 0, {}, 0
for i = 1, count do
  if timeOf(slots[i]) >= before and excess <= 0 then break end
  through = i
  local h = header(seqs[i])
  if h then
    kept = kept + 1
    excess = excess - 1
    local kind, tenant, ticket = h[6], h[7], h[8]
    for j = 1, #h[3] do rooms[h[3][j]] = (rooms[h[3][j]] or 0) + 1 end
    local needed = false
    if kind == 'm' then
      -- The state forgets a ticket's messages oldest first.
      local first = call('LINDEX', P .. 'messages:' .. tenant .. ',' .. ticket, 0)
      needed = first and tonumber(first) <= tonumber(seqs[i])
    elseif kind == 't' then
      local entry = call('HGET', P .. 'tickets:' .. tenant, ticket)
      needed = entry and tonumber(ticketEntry(entry).seq) == tonumber(seqs[i])
    end
    if not needed then gone[#gone + 1] = P .. 'record:' .. seqs[i] end
  end
end

local last = tonumber(seqs[through])
unlink(gone)
for audience, expected in pairs(rooms) do
  local key = P .. 'room:' .. audience
  local edge = call('LRANGE', key, expected - 1, expected)
  local fits = edge[1] and tonumber(edge[1]) <= last and (not edge[2] or tonumber(edge[2]) > last)
  call('LTRIM', key, fits and expected or position(key, last), -1)
end
-- The entry that holds the next slot stays, also when that one is not its first.
local holder = call('XREVRANGE', FEED, text(last + 1) .. '-0', '-', 'COUNT', 1)[1]
if holder and tonumber(string.sub(holder[1], 1, -3)) + #holder[2][2] / SLOT - 1 > last then
  call('XTRIM', FEED, 'MINID', holder[1])
else
  call('XTRIM', FEED, 'MINID', text(last + 1) .. '-0')
end
call('HSET', META, 'trimmed', seqs[through], 'trimmedNonce', nonceOf(slots[through]), 'records', text(m.records - kept),
  'tombstones', text(m.tombstones - (through - kept)))
wake()
return through == count and #seqs >= slice and 1 or 0
`,
);

/** ARGV: stateBeforeMs, most entries to forget now. Answers 1 when there is more to do. */
export const TRIM_STATE = script(
  WHEN_FULL,
  `
local m = meta()
if not m then return 0 end
local budget = tonumber(ARGV[2])
local due = call('ZRANGEBYSCORE', P .. 'state', '-inf', '(' .. ARGV[1], 'LIMIT', 0, budget)
for i = 1, #due do
  local tenant, ticket = string.match(due[i], '^([^,]*),(.*)$')
  local forgotten, whole = forgetTicket(m, tenant, ticket, budget, false)
  budget = budget - forgotten
  if not whole or budget <= 0 then return 1 end
end
return 0
`,
);

/** ARGV: sorted set and prefix of the keys that it lists, bound, most keys to delete now. Answers 1 when there is more. */
export const TRIM_KEYS = script(
  WHEN_FULL,
  `
local due = call('ZRANGEBYSCORE', P .. ARGV[1], '-inf', ARGV[3], 'LIMIT', 0, tonumber(ARGV[4]))
if #due == 0 then return 0 end
local keys = {}
for i = 1, #due do keys[i] = P .. ARGV[2] .. due[i] end
unlink(keys)
call('ZREM', P .. ARGV[1], unpack(due))
return #due == tonumber(ARGV[4]) and 1 or 0
`,
);

/**
 * ARGV: tenant, ticket or '', most entries to forget now, entries of `state`. Answers 1 when these entries are not done,
 * and the number of records that are gone with them.
 */
export const ERASE_STATE = script(
  WHEN_FULL,
  `
local m = meta()
if not m then return { 0, 0 } end
local budget, erased = tonumber(ARGV[3]), 0
for i = 4, #ARGV do
  local tenant, ticket = string.match(ARGV[i], '^([^,]*),(.*)$')
  if tenant == ARGV[1] and (ARGV[2] == '' or ticket == ARGV[2]) then
    local forgotten, whole, gone = forgetTicket(m, tenant, ticket, budget, true)
    budget, erased = budget - forgotten, erased + gone
    if not whole or budget <= 0 then return { 1, erased } end
  end
end
return { 0, erased }
`,
);

/**
 * ARGV: audience, tenant, ticket or '', seq to go on after, most records to look at now. Answers the seq to go on after,
 * or false, and the number of records erased. The entry of the feed stays as a tombstone.
 */
export const ERASE_LOG = script(
  WHEN_FULL,
  `
local m = meta()
if not m then return { false, 0 } end
local slice = tonumber(ARGV[5])
local room = P .. 'room:' .. ARGV[1]
local from = position(room, tonumber(ARGV[4]))
local seqs = call('LRANGE', room, from, from + slice - 1)
local gone, rooms = {}, {}
for i = 1, #seqs do
  local h = header(seqs[i])
  -- Keyed by room, an audience may hold records of another tenant with the same ticket id.
  if h and h[7] == ARGV[2] and (ARGV[3] == '' or h[8] == ARGV[3]) then
    gone[#gone + 1] = P .. 'record:' .. seqs[i]
    forgetIdempotency(h[11])
    for j = 1, #h[3] do
      -- Marked here and swept below, in one pass over the list for all.
      local key = P .. 'room:' .. h[3][j]
      rooms[key] = rooms[key] or {}
      rooms[key][#rooms[key] + 1] = position(key, tonumber(seqs[i])) - 1
    end
  end
end
for key, indexes in pairs(rooms) do
  for i = 1, #indexes do call('LSET', key, indexes[i], '0') end
  call('LREM', key, 0, '0')
end
if #gone > 0 then
  unlink(gone)
  call('HSET', META, 'records', text(m.records - #gone), 'tombstones', text(m.tombstones + #gone))
  call('HINCRBY', META, 'erasures', 1)
  wake()
end
return { #seqs == slice and seqs[#seqs], #gone }
`,
);

/** ARGV: pid, owner, data, expiresAtMs. Answers 1 when written. */
export const SAVE_SESSION = script(
  WRITES,
  `
local key = P .. 'session:' .. ARGV[1]
local owner = call('HGET', key, 'owner')
if owner and owner ~= ARGV[2] then return 0 end
call('HSET', key, 'owner', ARGV[2], 'data', ARGV[3], 'expires', ARGV[4])
call('ZADD', P .. 'sessions', ARGV[4], ARGV[1])
return 1
`,
);

/** ARGV: pid, owner, nowMs. Answers data and expiresAtMs, or nothing. */
export const CLAIM_SESSION = script(
  WHEN_FULL,
  `
local key = P .. 'session:' .. ARGV[1]
local known = call('HMGET', key, 'data', 'expires')
if not known[1] or tonumber(known[2]) <= tonumber(ARGV[3]) then return {} end
call('HSET', key, 'owner', ARGV[2])
return known
`,
);

/** ARGV: pid, owner, expiresAtMs, … */
export const TOUCH_SESSIONS = script(
  WHEN_FULL,
  `
for i = 1, #ARGV, 3 do
  local key = P .. 'session:' .. ARGV[i]
  if call('HGET', key, 'owner') == ARGV[i + 1] then
    call('HSET', key, 'expires', ARGV[i + 2])
    call('ZADD', P .. 'sessions', ARGV[i + 2], ARGV[i])
  end
end
return 1
`,
);

/** ARGV: pid, owner. */
export const DROP_SESSION = script(
  WHEN_FULL,
  `
local key = P .. 'session:' .. ARGV[1]
if call('HGET', key, 'owner') ~= ARGV[2] then return 0 end
call('UNLINK', key)
call('ZREM', P .. 'sessions', ARGV[1])
return 1
`,
);

/** ARGV: name, a fresh secret. Answers the secret that holds. */
export const SECRET = script(
  WRITES,
  `
call('HSETNX', P .. 'secrets', ARGV[1], ARGV[2])
return call('HGET', P .. 'secrets', ARGV[1])
`,
);
