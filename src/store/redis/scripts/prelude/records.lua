-- Records: payload length, header, line feed, payload, as encodeRecord() in record.ts writes them.

-- The header of a text that begins as a record does.
local function headerOf(text)
  local event, rooms, audiences, acceptedAtMs, nonce, kind, tenant, ticket, messageId, providerMessageId, idempotencyKey =
    unpack(cjson.decode(string.sub(text, string.find(text, '[', 1, true), string.find(text, '\n', 1, true) - 1)))
  return { event = event, at = acceptedAtMs, rooms = rooms, audiences = audiences, kind = kind, tenant = tenant,
    ticket = ticket, messageId = messageId, providerMessageId = providerMessageId, idempotencyKey = idempotencyKey }
end

-- Returns nil if the record was erased. Reads the start only: a payload can be a thousand times as long as its header.
local function readHeader(seq)
  local key = RECORD .. seq
  local record = call('GETRANGE', key, 0, 1023)
  if record == '' then return nil end
  if not string.find(record, '\n', 1, true) then record = call('GET', key) end
  return headerOf(record)
end

-- Drops the payload of a record of which the state needs the header only.
local function stub(seq)
  local record = call('GET', RECORD .. seq)
  if not record then return end
  call('SET', RECORD .. seq, '0' .. string.sub(record, string.find(record, '[', 1, true), string.find(record, '\n', 1, true)))
end

-- The lists of ROOM that hold a record: those of its audiences, and what erasure needs if the record went neither to its
-- tenant's room or its ticket's. appender.ts does the same. Audiences do not begin with a line feed.
local function listsOf(tenant, ticket, rooms, audiences)
  local ofTenant, ofTicket, lists = false, ticket == '', {}
  for i = 1, #rooms do
    ofTenant = ofTenant or rooms[i] == 'tenant:' .. tenant
    ofTicket = ofTicket or rooms[i] == 'ticket:' .. ticket
    lists[i] = audiences[i]
  end
  if not ofTenant then lists[#lists + 1] = '\n' .. tenant end
  if not ofTicket then lists[#lists + 1] = '\n' .. tenant .. '\n' .. ticket end
  return lists
end

-- Records that a read looks at for a filter of events.
local FILTERED = 1000

-- Of the first `count` seqs, those of records of these events, up to `limit`, and how many it looked at. The header begins
-- with the event, whose name needs no escapes.
local function keepEvents(seqs, count, events, limit)
  local kept = {}
  for i = 1, count do
    if #kept == limit then return kept, i - 1 end
    local event = events ~= '' and string.match(call('GETRANGE', RECORD .. seqs[i], 0, 159), '^%d+%["([^"]+)"')
    if events == '' or (event and string.find(events, ',' .. event .. ',', 1, true)) then kept[#kept + 1] = seqs[i] end
  end
  return kept, count
end

-- In characters, as JavaScript counts them.
local function payloadLength(record) return tonumber(string.match(record, '^%d+')) end

-- Adds the records of `seqs` to `out`, each as its seq (or its label in `labels`) and its value, until the payloads
-- exceed `maxChars`. Returns the number of seqs processed.
local function addRecords(out, seqs, count, maxChars, labels)
  local bytes, chars, at, chunk = 0, nil, 1, 1
  local start = #out
  while at <= count do
    -- Chunks grow, so that at most about twice the size of the result is read, however large the records are.
    local to = math.min(at + chunk - 1, count)
    chunk = math.min(2 * chunk, 32)
    local keys = {}
    for i = at, to do keys[#keys + 1] = RECORD .. seqs[i] end
    local values = call('MGET', unpack(keys))
    for i = 1, #values do
      if values[i] then
        out[#out + 1] = (labels or seqs)[at + i - 1]
        out[#out + 1] = values[i]
        -- A payload has at least as many bytes as characters, so most reads end before characters are counted.
        bytes = bytes + #values[i]
        if bytes > maxChars then
          if chars then
            chars = chars + payloadLength(values[i])
          else
            chars = 0
            for j = start + 2, #out, 2 do chars = chars + payloadLength(out[j]) end
          end
          if chars > maxChars then return at + i - 1 end
        end
      end
    end
    at = to + 1
  end
  return count
end

local function unlink(keys)
  if #keys > 0 then call('UNLINK', unpack(keys)) end
end
