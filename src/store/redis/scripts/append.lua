#!lua
-- Appends requests: id, deduplication, feed, rooms and state in one atomic step.
--
-- ARGV, which buildArguments() in appender.ts makes: epoch for a new log, keying; then the names to which events refer,
-- each once and by tenant, so that a key takes one command for all events:
--   number of tenants with deduplication ids; each: tenant, number of fields, the fields of DEDUPE
--   number of tenants with tickets; each: tenant, number of tickets, the tickets
--   1, '', number of audiences, the audiences; or 0
-- then the number of requests; each: idempotency key or '', fingerprint, acceptedAtMs (16 digits), number of events,
-- number of their arguments; and per event: nonce, record, kind ('t', 'm', 'c' or ''), number of lists of ROOM, then
-- references to the names above, counted from 1: the lists; for 'm' and 'c' the ticket, and the fields of messageId and of
-- providerMessageId (0 for none); for 't' the ticket, followed by its agreement or '', its rooms (keys.lua) or '', status, updatedAt.
-- For 'c' also: '1' if the publisher named the rooms, 'u' or 'd', instant, status rank, a hash of the event, then what
-- follows `record`, which ends before the rooms: rooms and audiences, and the rest of the record.
--
-- Returns 'ok', epoch, and per request 'conflict', or lines: 'repeat' or a mark per event (+ new, = duplicate), then
-- '{seq} {nonce}' of each event, and its rooms as JSON if they may be others than those of the request. If the log has
-- another keying, returns 'keying' and that keying.
local log = openLog(ARGV[1], ARGV[2])
if log.keying ~= ARGV[2] then return { 'keying', log.keying } end
local time = call('TIME')
-- The clock keeps a promoted replica that lost the newest records from using their seqs again.
local first = math.max(log.last + 1, tonumber(time[1]) * 1000000 + tonumber(time[2]))
local last, lastNonce, slots = first - 1, nil, {}
-- Of the moments in the slots.
local earliest, latest = nil, nil
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

-- Records of messages in this run, by seq.
local written = {}
local function roomsOf(seq)
  local h = written[seq] and headerOf(written[seq]) or readHeader(seq)
  return h and h.rooms
end

local NONE = {}
-- What changed in this run: messages by ticket and first seq, and the records that the state does not show any more.
local known, changed, given, hidden = {}, {}, {}, {}

-- The value of a name, or false.
local function nameOf(ticket, field)
  if ids[field] == false and log.upgrade and field > 0 then
    local start = 'i,' .. ticketId[ticket] .. ','
    if string.sub(idField[field], 1, #start) == start then
      ids[field] = oldName(ticketTenant[ticket], ticketId[ticket], string.sub(idField[field], #start + 1)) or nil
    else
      ids[field] = nil
    end
  end
  return ids[field]
end

local function messageNamed(ticket, name)
  return follow(name, function(first)
    local key = ticket .. ',' .. first
    if not known[key] then
      known[key] = parseChange(first, call('HGET', CHANGED .. ticketTenant[ticket] .. ',' .. ticketId[ticket], first))
    end
    return known[key]
  end, function(passed, to)
    passed.forward = to
    changed[ticket .. ',' .. passed.first] = { ticket, passed }
  end)
end

local function addMessage(ticket, message)
  known[ticket .. ',' .. message.first] = message
  return message
end

local function note(ticket, message) changed[ticket .. ',' .. message.first] = { ticket, message } end

-- Shows a record in place of the one that is shown, if it is newer.
local function show(ticket, message, shown, instant, rank)
  local isNewer = not message.shown or instant > message.instant
    or (instant == message.instant and (rank > message.rank
      or (rank == message.rank and tonumber(shown) > tonumber(message.shown))))
  if message.deleted or not isNewer then return end
  if message.shown then hidden[#hidden + 1] = { message, message.shown } end
  message.shown, message.instant, message.rank = shown, instant, rank
  note(ticket, message)
end

local function delete(ticket, message)
  if message.shown then hidden[#hidden + 1] = { message, message.shown } end
  message.deleted, message.shown = true, nil
  note(ticket, message)
end

-- `other` turned out to be `message`.
local function join(ticket, message, other)
  if other == message then return end
  if other.deleted then delete(ticket, message) else show(ticket, message, other.shown, other.instant, other.rank) end
  if other.shown and other.shown ~= message.shown then hidden[#hidden + 1] = { other, other.shown } end
  if other.first ~= message.shown then hidden[#hidden + 1] = { other, other.first } end
  other.forward = message.name
  note(ticket, other)
end

-- Gives the names that no message has.
local function give(ticket, message, ...)
  for _, field in ipairs({ ... }) do
    if field > 0 and not nameOf(ticket, field) then
      ids[field], idNew[field] = message.name, true
      given[#given + 1] = { ticket, field }
    end
  end
end

-- The hash under which a change of a message is a repeat.
local function repeatKey(ticket, digest, audience)
  local tenant, sorted = ticketTenant[ticket], {}
  for i = 1, #audience do sorted[i] = audience[i] end
  table.sort(sorted)
  local fresh = call('ZMSCORE', FRESH, redis.sha1hex(tenant .. '\n'), redis.sha1hex(tenant .. '\n' .. ticketId[ticket]))
  return redis.sha1hex(table.concat({ digest, fresh[1] or '', fresh[2] or '', unpack(sorted) }, '\n'))
end

local function write(nonce, record, moment)
  last = last + 1
  lastNonce = nonce
  local seq = decimal(last)
  slots[#slots + 1] = nonce .. moment
  -- Of equal length, so they compare as numbers do.
  if not earliest or moment < earliest then earliest = moment end
  if not latest or moment > latest then latest = moment end
  values[#values + 1] = RECORD .. seq
  values[#values + 1] = record
  return seq
end

-- The list of ROOM with this name, among those that this run extends.
local listNamed
local function listOf(name)
  if not listNamed then
    listNamed = {}
    for i = 1, #rooms do listNamed[rooms[i][2]] = rooms[i] end
  end
  local key = ROOM .. name
  if not listNamed[key] then
    listNamed[key] = { 'RPUSH', key }
    rooms[#rooms + 1] = listNamed[key]
  end
  return listNamed[key]
end

-- Appends a change of a message; `at` is where its own arguments begin. Returns as append() does.
local function appendChange(nonce, head, from, past, at, moment)
  local ticket, messageField, providerField = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local isNamed, kind, instant, rank = ARGV[at + 3] == '1', ARGV[at + 4], tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
  local digest, audience, rest = ARGV[at + 7], ARGV[at + 8], ARGV[at + 9]
  local message, pending = nil, {}
  for _, field in ipairs({ messageField, providerField }) do
    local name = nameOf(ticket, field)
    local found = name and messageNamed(ticket, name)
    if found and isPending(found.name) then
      pending[#pending + 1] = found
    elseif found and not message then
      message = found
    end
  end
  if not message then
    table.sort(pending, function(a, b) return tonumber(a.first) < tonumber(b.first) end)
    message = pending[1]
  end

  local named = cjson.decode('[' .. audience .. ']')[1]
  local source = message and not isNamed and message.first or nil
  local went = source and roomsOf(source) or named
  local key = repeatKey(ticket, digest, went)
  local original = keys[key] and keys[key].value or call('GET', IDEMPOTENCY .. key)
  if original then
    local first = firstOf(original)
    return original, true, source or first, roomsOf(first) or went
  end

  local record, lists = head .. audience .. rest, nil
  if went ~= named then
    local audiences = {}
    for i = 1, #went do
      audiences[i] = log.keying == 'room' and went[i] or ticketTenant[ticket] .. '\n' .. went[i]
    end
    record = head .. cjson.encode(went) .. ',' .. cjson.encode(audiences) .. rest
    lists = listsOf(ticketTenant[ticket], ticketId[ticket], went, audiences)
  end
  local seq = write(nonce, record, moment)
  written[seq] = record
  if lists then
    for i = 1, #lists do
      local list = listOf(lists[i])
      list[#list + 1] = seq
    end
  else
    for i = from, past - 1 do
      local list = rooms[tonumber(ARGV[i])]
      list[#list + 1] = seq
    end
  end
  local id = seq .. ' ' .. nonce
  keys[key] = { value = id, moment = moment }
  values[#values + 1] = IDEMPOTENCY .. key
  values[#values + 1] = id

  if not message then
    message = addMessage(ticket, { first = seq, name = '?' .. seq })
    note(ticket, message)
  end
  for i = 1, #pending do join(ticket, message, pending[i]) end
  give(ticket, message, messageField, providerField)
  if kind == 'd' then delete(ticket, message) else show(ticket, message, seq, instant, rank) end
  return id, false, source, source and went
end

-- Returns '{seq} {nonce}' of the record, whether the event is a duplicate, the seq of the record whose rooms the event has,
-- and these rooms; without them, the event went to its own rooms.
local function append(accepted, moment)
  local nonce, record, kind, from = ARGV[arg], ARGV[arg + 1], ARGV[arg + 2], arg + 4
  local past = from + tonumber(ARGV[arg + 3])
  arg = past
  if kind == 'c' then
    arg = past + 10
    local id, duplicate, source, went = appendChange(nonce, record, from, past, past, moment)
    local ticket = tonumber(ARGV[past])
    if not duplicate then active[ticket] = math.max(active[ticket] or 0, accepted) end
    return id, duplicate, source, went
  end
  local ticket, messageField, providerField, pending = nil, nil, nil, nil
  if kind == 'm' then
    ticket, messageField, providerField = tonumber(ARGV[arg]), tonumber(ARGV[arg + 1]), tonumber(ARGV[arg + 2])
    arg = arg + 3
    -- The most frequent message is new, and nothing was kept for it.
    local names = (ids[messageField] or ids[providerField] or log.upgrade)
      and { nameOf(ticket, messageField) or false, nameOf(ticket, providerField) or false } or NONE
    for i = 1, #names do
      local name = names[i]
      if name and isPending(name) then
        pending = pending or {}
        pending[#pending + 1] = messageNamed(ticket, name)
        name = pending[#pending].name
      end
      if name and not isPending(name) then return name, true, firstOf(name), roomsOf(firstOf(name)) end
    end
  end

  local seq = write(nonce, record, moment)
  local id = seq .. ' ' .. nonce
  for i = from, past - 1 do
    local list = rooms[tonumber(ARGV[i])]
    list[#list + 1] = seq
  end

  if kind == 'm' then
    written[seq] = record
    if pending then
      local message = addMessage(ticket, { first = seq, name = id, shown = seq, instant = EARLIEST, rank = 0 })
      for i = 1, #pending do join(ticket, message, pending[i]) end
    end
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
    local newest, agreement, others, updatedAt = current[ticket], ARGV[arg + 1], ARGV[arg + 2], ARGV[arg + 4]
    local seconds, fraction = string.match(updatedAt, '^(%d+)%.(%d*)$')
    if not newest or newest.seconds < seconds or (newest.seconds == seconds and newest.fraction <= fraction) then
      local padded = #seq == 16 and seq or string.format('%016.0f', last)
      local id = ticketId[ticket]
      local entry = updatedAt .. ',' .. padded .. ',' .. id .. ',' .. agreement .. others .. ',' .. ARGV[arg + 3]
      current[ticket] = { seconds = seconds, fraction = fraction, agreement = agreement, rooms = others, entry = entry,
        ticket = id }
    end
    arg = arg + 5
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
    if string.sub(previous, 1, #start) == start then
      local lines = { 'repeat' }
      for id, source in string.gmatch(string.sub(previous, #start + 1), '(%d+ %w+) ?(%d*)') do
        local went = source ~= '' and (roomsOf(source) or roomsOf(firstOf(id)))
        lines[#lines + 1] = id .. (went and ' ' .. cjson.encode(went) or '')
      end
      out[#out + 1] = table.concat(lines, '\n')
    else
      out[#out + 1] = 'conflict'
    end
  else
    local accepted = tonumber(moment)
    local list, marks, sources = {}, {}, {}
    for e = 1, events do
      local id, duplicate, source, went = append(accepted, moment)
      list[e], marks[e] = went and id .. ' ' .. cjson.encode(went) or id, duplicate and '=' or '+'
      sources[e] = source and id .. ' ' .. source or id
    end
    local lines = table.concat(list, '\n')
    if key ~= '' then
      keys[key] = { value = fingerprint .. '\n' .. table.concat(sources, '\n'), moment = moment }
      values[#values + 1] = IDEMPOTENCY .. key
      values[#values + 1] = keys[key].value
    end
    out[#out + 1] = table.concat(marks) .. '\n' .. lines
  end
end

if lastNonce then
  call('XADD', FEED, decimal(first) .. '-0', 'n', table.concat(slots))
  call('HSET', META, 'last', decimal(last), 'nonce', lastNonce, 'records', decimal(log.records + #slots))
  local drift = math.ceil(math.max(last / 1000 - tonumber(earliest), tonumber(latest) - first / 1000))
  if not log.drift then call('HSET', META, 'drift', decimal(drift), 'driftFrom', decimal(log.last + 1)) end
  if log.drift and drift > log.drift then call('HSET', META, 'drift', decimal(drift)) end
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
local changes = {}
local function change(ticket, field, value)
  local hash = changes[ticket]
  if not hash then
    hash = { 'HSET', CHANGED .. ticketTenant[ticket] .. ',' .. ticketId[ticket] }
    changes[ticket] = hash
    commands[#commands + 1] = hash
  end
  hash[#hash + 1] = field
  hash[#hash + 1] = value
end
for _, noted in pairs(changed) do
  local message = noted[2]
  change(noted[1], message.first, message.forward and '>' .. message.forward or message.deleted and 'x'
    or message.shown .. ',' .. decimal(message.instant) .. ',' .. decimal(message.rank))
end
for i = 1, #given do change(given[i][1], '+' .. idField[given[i][2]], '') end
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
    if old and old.rooms ~= '' then
      for _, key in ipairs(shownOf(tenant, old)) do commands[#commands + 1] = { 'ZREM', key, old.entry } end
    end
    if new.rooms ~= '' then
      for _, key in ipairs(shownOf(tenant, new)) do commands[#commands + 1] = { 'ZADD', key, '0', new.entry } end
    end
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
for i = 1, #hidden do
  local message, seq = hidden[i][1], hidden[i][2]
  if tonumber(seq) <= log.trimmed then
    -- A message needs the rooms of its first record.
    if seq == message.first and not message.forward then stub(seq) else call('UNLINK', RECORD .. seq) end
  end
end
return out
