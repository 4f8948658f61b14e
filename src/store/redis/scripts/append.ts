/** The scripts that make a log and append to it: id, dedupe, feed, index by room and state, in one atomic step. */
import { script, WRITES } from './script.ts';

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
