#!lua
-- Appends requests: id, deduplication, feed, rooms and state in one atomic step.
--
-- ARGV, which buildArguments() in appender.ts makes: epoch for a new log, keying; then the names to which events refer,
-- each once and by tenant, so that a key takes one command for all events:
--   number of tenants with deduplication ids; each: tenant, number of fields, the fields of DEDUPE
--   number of tenants with tickets; each: tenant, number of tickets, the tickets
--   1, '', number of audiences, the audiences; or 0
-- then the number of requests; each: idempotency key or '', fingerprint, acceptedAtMs (16 digits), number of events,
-- number of their arguments; and per event: nonce, record, kind ('t', 'm' or ''), number of audiences, then references
-- to the names above, counted from 1: the audiences; for 'm' the ticket, and the fields of messageId and of
-- providerMessageId (0 for none); for 't' the ticket, followed by its agreement or '', status, updatedAt.
--
-- Returns 'ok', epoch, and per request 'conflict', or lines: 'repeat' or a mark per event (+ new, = duplicate), then
-- '{seq} {nonce}' of each event. If the log has another keying, returns 'keying' and that keying.
local log = openLog(ARGV[1], ARGV[2])
if log.keying ~= ARGV[2] then return { 'keying', log.keying } end
local time = call('TIME')
-- The clock keeps a promoted replica that lost the newest records from using their seqs again.
local first = math.max(log.last + 1, tonumber(time[1]) * 1000000 + tonumber(time[2]))
local last, lastNonce, slots = first - 1, nil, {}
local arg = 3

-- Everything is looked up and prepared before anything is written.
local function lookUp(prefix, each)
  local count = 0
  local tenants = tonumber(ARGV[arg])
  arg = arg + 1
  for _ = 1, tenants do
    local tenant, n = ARGV[arg], tonumber(ARGV[arg + 1])
    local values = call('HMGET', prefix .. tenant, unpack(ARGV, arg + 2, arg + 1 + n))
    for i = 1, n do each(count + i, tenant, ARGV[arg + 1 + i], values[i]) end
    count = count + n
    arg = arg + 2 + n
  end
  return count
end
local ids, idTenant, idField, idNew = { [0] = false }, {}, {}, {}
local idCount = lookUp(DEDUPE, function(i, tenant, field, value)
  ids[i], idTenant[i], idField[i] = value, tenant, field
end)
local stored, current, ticketTenant, ticketId = {}, {}, {}, {}
local ticketCount = lookUp(TICKETS, function(i, tenant, ticket, value)
  stored[i] = value and parseEntry(value)
  if value then stored[i].entry = value end
  current[i], ticketTenant[i], ticketId[i] = stored[i], tenant, ticket
end)
local rooms = {}
if ARGV[arg] == '1' then
  local n = tonumber(ARGV[arg + 2])
  for i = 1, n do rooms[i] = { 'RPUSH', ROOM .. ARGV[arg + 2 + i] } end
  arg = arg + 2 + n
end
arg = arg + 1
local values, keys, messages, active = { 'MSET' }, {}, {}, {}

-- Returns '{seq} {nonce}' of the record, and whether the event is a duplicate.
local function append(accepted, moment)
  local nonce, record, kind, from = ARGV[arg], ARGV[arg + 1], ARGV[arg + 2], arg + 4
  arg = from + tonumber(ARGV[arg + 3])
  local past, ticket, messageField, providerField = arg, nil, nil, nil
  if kind == 'm' then
    ticket, messageField, providerField = tonumber(ARGV[arg]), tonumber(ARGV[arg + 1]), tonumber(ARGV[arg + 2])
    arg = arg + 3
    local original = ids[messageField] or ids[providerField]
    if original then return original, true end
  end

  last = last + 1
  lastNonce = nonce
  local seq = decimal(last)
  local id = seq .. ' ' .. nonce
  slots[#slots + 1] = nonce .. moment
  values[#values + 1] = RECORD .. seq
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
      list = { 'RPUSH', MESSAGES .. ticketTenant[ticket] .. ',' .. ticketId[ticket] }
      messages[ticket] = list
    end
    list[#list + 1] = seq
  elseif kind == 't' then
    ticket = tonumber(ARGV[arg])
    local newest, agreement, status, updatedAt = current[ticket], ARGV[arg + 1], ARGV[arg + 2], ARGV[arg + 3]
    local seconds, fraction = string.match(updatedAt, '^(%d+)%.(%d*)$')
    if not newest or newest.seconds < seconds or (newest.seconds == seconds and newest.fraction <= fraction) then
      local padded = #seq == 16 and seq or string.format('%016.0f', last)
      local entry = updatedAt .. ',' .. padded .. ',' .. ticketId[ticket] .. ',' .. agreement .. ',' .. status
      current[ticket] = { seconds = seconds, fraction = fraction, agreement = agreement, entry = entry }
    end
    arg = arg + 4
  end
  if ticket then active[ticket] = math.max(active[ticket] or 0, accepted) end
  return id, false
end

local out = { 'ok', log.epoch }
local requests = tonumber(ARGV[arg])
arg = arg + 1
for _ = 1, requests do
  local key, fingerprint, moment = ARGV[arg], ARGV[arg + 1], ARGV[arg + 2]
  local events, arguments = tonumber(ARGV[arg + 3]), tonumber(ARGV[arg + 4])
  arg = arg + 5
  local previous = key ~= '' and (keys[key] and keys[key].value or call('GET', IDEMPOTENCY .. key))
  if previous then
    arg = arg + arguments
    local start = fingerprint .. '\n'
    local matches = string.sub(previous, 1, #start) == start
    out[#out + 1] = matches and 'repeat\n' .. string.sub(previous, #start + 1) or 'conflict'
  else
    local accepted = tonumber(moment)
    local list, marks = {}, {}
    for e = 1, events do
      local id, duplicate = append(accepted, moment)
      list[e], marks[e] = id, duplicate and '=' or '+'
    end
    local lines = table.concat(list, '\n')
    if key ~= '' then
      keys[key] = { value = fingerprint .. '\n' .. lines, moment = moment }
      values[#values + 1] = IDEMPOTENCY .. key
      values[#values + 1] = keys[key].value
    end
    out[#out + 1] = table.concat(marks) .. '\n' .. lines
  end
end

if lastNonce then
  call('XADD', FEED, decimal(first) .. '-0', 'n', table.concat(slots))
  call('HSET', META, 'last', decimal(last), 'nonce', lastNonce, 'records', decimal(log.records + #slots))
end
if #values > 1 then call(unpack(values)) end
local commands = {}
for i = 1, #rooms do
  if #rooms[i] > 2 then commands[#commands + 1] = rooms[i] end
end
for _, list in pairs(messages) do commands[#commands + 1] = list end

-- Names are ordered by tenant, so each tenant takes one command.
local tenant, command
for i = 1, idCount do
  if idNew[i] then
    if tenant ~= idTenant[i] then
      tenant = idTenant[i]
      command = { 'HSET', DEDUPE .. tenant }
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
      command = { 'HSET', TICKETS .. tenant }
      add, remove = { 'ZADD', RECENT .. tenant }, nil
      commands[#commands + 1] = command
      commands[#commands + 1] = add
    end
    if old then
      if not remove then
        remove = { 'ZREM', RECENT .. tenant }
        commands[#commands + 1] = remove
      end
      remove[#remove + 1] = old.entry
      local seq = tonumber(old.seq)
      if seq <= log.trimmed then commands[#commands + 1] = { 'UNLINK', RECORD .. decimal(seq) } end
    end
    command[#command + 1] = ticketId[i]
    command[#command + 1] = new.entry
    add[#add + 1] = '0'
    add[#add + 1] = new.entry
    local before = old and old.agreement or ''
    if before ~= new.agreement then
      local sets = AGREEMENT .. tenant .. ','
      if before ~= '' then commands[#commands + 1] = { 'SREM', sets .. before, ticketId[i] } end
      if new.agreement ~= '' then commands[#commands + 1] = { 'SADD', sets .. new.agreement, ticketId[i] } end
    end
  end
end
local touched = { 'ZADD', STATE, 'GT' }
for i, accepted in pairs(active) do
  touched[#touched + 1] = decimal(accepted)
  touched[#touched + 1] = ticketTenant[i] .. ',' .. ticketId[i]
end
if #touched > 3 then commands[#commands + 1] = touched end
local expiring = { 'ZADD', IDEMPOTENCY_INDEX }
for key, answer in pairs(keys) do
  expiring[#expiring + 1] = answer.moment
  expiring[#expiring + 1] = key
end
if #expiring > 2 then commands[#commands + 1] = expiring end
for i = 1, #commands do call(unpack(commands[i])) end
return out
