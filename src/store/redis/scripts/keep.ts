/** The scripts that keep house: retention, erasure, Socket.IO sessions, the nodes that live, and secrets. */
import { script, WHEN_FULL, WRITES } from './script.ts';

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
