-- Ticket and message state.

-- An entry of TICKETS. Only strings of digits may be compared: Lua compares strings by the server's locale.
local function parseEntry(entry)
  local seconds, fraction, seq, ticket, agreement, status =
    string.match(entry, '^(%d+)%.(%d*),(%d+),([^,]*),([^,]*),(.*)$')
  local rooms, space = '', string.find(agreement, ' ', 1, true)
  if space then agreement, rooms = string.sub(agreement, 1, space - 1), string.sub(agreement, space) end
  return { entry = entry, seconds = seconds, fraction = fraction, seq = seq, ticket = ticket, agreement = agreement,
    rooms = rooms, status = status }
end

-- The keys of SHOWN that hold an entry.
local function shownOf(tenant, e)
  local keys = {}
  for room in string.gmatch(e.rooms, '%S+') do
    if room ~= 'tenant:' .. tenant and room ~= 'ticket:' .. e.ticket and room ~= 'agreement:' .. e.agreement then
      keys[#keys + 1] = SHOWN .. tenant .. ',' .. room
    end
  end
  return keys
end

-- Forgets an entry of TICKETS.
local function forgetEntry(tenant, e)
  call('HDEL', TICKETS .. tenant, e.ticket)
  call('ZREM', RECENT .. tenant, e.entry)
  for _, key in ipairs(shownOf(tenant, e)) do call('ZREM', key, e.entry) end
  if e.agreement ~= '' then call('SREM', AGREEMENT .. tenant .. ',' .. e.agreement, e.ticket) end
end

-- Before every instant.
local EARLIEST = -1e16

-- What CHANGED says of a message whose first record is `first`.
local function parseChange(first, entry)
  if not entry then return { first = first, shown = first, instant = EARLIEST, rank = 0 } end
  if entry == 'x' then return { first = first, deleted = true } end
  if string.sub(entry, 1, 1) == '>' then return { first = first, forward = string.sub(entry, 2) } end
  local shown, instant, rank = string.match(entry, '^(%d+),(%-?%d+),(%d+)$')
  return { first = first, shown = shown, instant = tonumber(instant), rank = tonumber(rank) }
end

local function isPending(name) return string.byte(name) == 63 end
local function firstOf(name) return string.match(name, '%d+') end

-- Follows a name to its message. read(first) returns a change. `compress(first, name)` shortens the way of the next.
local function follow(name, read, compress)
  local passed = {}
  local message = read(firstOf(name))
  while message.forward do
    passed[#passed + 1] = message
    name = message.forward
    message = read(firstOf(name))
  end
  for i = 1, #passed - 1 do compress(passed[i], name) end
  message.name = name
  return message
end

-- The name of a message in format 1, if the message belongs to this ticket.
local function oldName(tenant, ticket, messageId)
  local name = call('HGET', DEDUPE .. tenant, 'm,' .. messageId)
  local h = name and readHeader(firstOf(name))
  return h and h.ticket == ticket and name
end

-- The message that a record of one means.
local function messageOf(log, h)
  local ids, names = {}, DEDUPE .. h.tenant
  if h.messageId ~= '' then
    ids[1] = call('HGET', names, 'i,' .. h.ticket .. ',' .. h.messageId)
      or (log.upgrade and oldName(h.tenant, h.ticket, h.messageId)) or nil
  end
  if h.providerMessageId ~= '' then
    ids[#ids + 1] = call('HGET', names, 'p,' .. h.ticket .. ',' .. h.providerMessageId) or nil
  end
  local key, found = CHANGED .. h.tenant .. ',' .. h.ticket, nil
  for i = 1, #ids do
    local message = follow(ids[i], function(first) return parseChange(first, call('HGET', key, first)) end,
      function(passed, name) call('HSET', key, passed.first, '>' .. name) end)
    if not found or (isPending(found.name) and not isPending(message.name)) then found = message end
  end
  return found
end

-- Deletes a record of the state if the log has trimmed it. Returns the number of records deleted.
local function deleteIfTrimmed(log, seq)
  if tonumber(seq) > log.trimmed then return 0 end
  local key = RECORD .. decimal(tonumber(seq))
  -- What the state kept without its payload is no record any more.
  local counts = call('GETRANGE', key, 0, 1) ~= '0['
  return call('UNLINK', key) == 1 and counts and 1 or 0
end

local function forgetIdempotency(key)
  if key ~= '' then
    call('UNLINK', IDEMPOTENCY .. key)
    call('ZREM', IDEMPOTENCY_INDEX, key)
  end
end

-- Forgets the state of a ticket: up to `budget` of its messages and changes, then the ticket. Returns the number of entries
-- forgotten, whether all of them are, and the number of records deleted.
local function forgetTicket(log, tenant, ticket, budget, erasing)
  local key, names = MESSAGES .. tenant .. ',' .. ticket, DEDUPE .. tenant
  local seqs = call('LRANGE', key, 0, budget - 1)
  local deleted = 0
  local function forget(seq)
    local h = readHeader(seq)
    if h then
      if h.messageId ~= '' then
        call('HDEL', names, 'i,' .. ticket .. ',' .. h.messageId)
        if log.upgrade and oldName(tenant, ticket, h.messageId) then call('HDEL', names, 'm,' .. h.messageId) end
      end
      if h.providerMessageId ~= '' then call('HDEL', names, 'p,' .. ticket .. ',' .. h.providerMessageId) end
      if erasing then forgetIdempotency(h.idempotencyKey) end
    end
    deleted = deleted + deleteIfTrimmed(log, seq)
  end
  for i = 1, #seqs do forget(seqs[i]) end
  if #seqs > 0 then call('LPOP', key, #seqs) end
  local count, changed = #seqs, CHANGED .. tenant .. ',' .. ticket
  local cursor = '0'
  while count < budget do
    local found = call('HSCAN', changed, cursor, 'COUNT', budget - count)
    local fields = found[2]
    for i = 1, #fields, 2 do
      if string.sub(fields[i], 1, 1) == '+' then
        call('HDEL', names, string.sub(fields[i], 2))
      else
        local message = parseChange(fields[i], fields[i + 1])
        forget(message.first)
        if message.shown then forget(message.shown) end
      end
      call('HDEL', changed, fields[i])
    end
    count, cursor = count + #fields / 2, found[1]
    if cursor == '0' then break end
  end
  if count >= budget then return count, false, deleted end
  local entry = call('HGET', TICKETS .. tenant, ticket)
  if entry then
    local e = parseEntry(entry)
    if erasing then
      local h = readHeader(decimal(tonumber(e.seq)))
      if h then forgetIdempotency(h.idempotencyKey) end
    end
    forgetEntry(tenant, e)
    deleted = deleted + deleteIfTrimmed(log, e.seq)
  end
  call('ZREM', STATE, tenant .. ',' .. ticket)
  return count + 1, true, deleted
end
