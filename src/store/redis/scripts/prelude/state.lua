-- Ticket and message state.

-- An entry of TICKETS: updatedAt (12 digits, dot, fraction), seq (16 digits), ticket, agreement, status. Only strings of
-- digits may be compared: Lua compares strings by the server's locale.
local function parseEntry(entry)
  local seconds, fraction, seq, ticket, agreement, status =
    string.match(entry, '^(%d+)%.(%d*),(%d+),([^,]*),([^,]*),(.*)$')
  return { seconds = seconds, fraction = fraction, seq = seq, ticket = ticket, agreement = agreement, status = status }
end

-- Deletes a record of the state if the log has trimmed it. Returns the number of records deleted.
local function deleteIfTrimmed(log, seq)
  if tonumber(seq) > log.trimmed then return 0 end
  return call('UNLINK', RECORD .. decimal(tonumber(seq)))
end

local function forgetIdempotency(key)
  if key ~= '' then
    call('UNLINK', IDEMPOTENCY .. key)
    call('ZREM', IDEMPOTENCY_INDEX, key)
  end
end

-- Forgets the state of a ticket: up to `budget` of its messages, then the ticket. Returns the number of entries
-- forgotten, whether all of them are, and the number of records deleted.
local function forgetTicket(log, tenant, ticket, budget, erasing)
  local key = MESSAGES .. tenant .. ',' .. ticket
  local seqs = call('LRANGE', key, 0, budget - 1)
  local deleted = 0
  for i = 1, #seqs do
    local h = readHeader(seqs[i])
    if h then
      if h.messageId ~= '' then call('HDEL', DEDUPE .. tenant, 'm,' .. h.messageId) end
      if h.providerMessageId ~= '' then call('HDEL', DEDUPE .. tenant, 'p,' .. ticket .. ',' .. h.providerMessageId) end
      if erasing then forgetIdempotency(h.idempotencyKey) end
    end
    deleted = deleted + deleteIfTrimmed(log, seqs[i])
  end
  if #seqs > 0 then call('LPOP', key, #seqs) end
  if #seqs == budget then return #seqs, false, deleted end
  local entry = call('HGET', TICKETS .. tenant, ticket)
  if entry then
    local stored = parseEntry(entry)
    if erasing then
      local h = readHeader(decimal(tonumber(stored.seq)))
      if h then forgetIdempotency(h.idempotencyKey) end
    end
    call('HDEL', TICKETS .. tenant, ticket)
    call('ZREM', RECENT .. tenant, entry)
    if stored.agreement ~= '' then call('SREM', AGREEMENT .. tenant .. ',' .. stored.agreement, ticket) end
    deleted = deleted + deleteIfTrimmed(log, stored.seq)
  end
  call('ZREM', STATE, tenant .. ',' .. ticket)
  return #seqs + 1, true, deleted
end
