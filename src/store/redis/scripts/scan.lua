#!lua flags=no-writes
-- A step of a scan of the log (scan.ts). ARGV: order, then of `after` and of `before` each '1' or '' for none, epoch, seq,
-- nonce; sinceMs and untilMs, each or ''; events as for read.lua; rows to look at; limit; maxChars; the parts as JSON, each
-- with an array of tenants or false, and a room or false, or none if the lists tell; 'all', or 'lists' and the lists
-- of ROOM with their records.
-- Adds to the answer: the cursor at fault ('after' or 'before', else ''), '{seq} {nonce}' of how far it came, '1' if there
-- are more; then seq, record, …
local log = readLog()
if not log then return { 'none' } end
local isAscending = ARGV[1] == 'asc'
local function boundAt(at)
  if ARGV[at] == '' then return 'ok' end
  return resolve(log, ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]), tonumber(ARGV[at + 2]), ARGV[at + 3]
end
local faultOfAfter, low, lowNonce = boundAt(2)
local faultOfBefore, high = boundAt(6)
local out = logAnswer(faultOfAfter ~= 'ok' and faultOfAfter or faultOfBefore, log)
out[9], out[10], out[11] = faultOfAfter ~= 'ok' and 'after' or 'before', '', ''
if out[1] ~= 'ok' then return out end
if not low then low, lowNonce = log.trimmed, log.trimmedNonce end

local since, till = tonumber(ARGV[10]), tonumber(ARGV[11])
local events, rows, limit, maxChars = ARGV[12], tonumber(ARGV[13]), tonumber(ARGV[14]), tonumber(ARGV[15])
-- By the drift, the time in a seq tells which records are surely outside of the instants.
local from, past = low, high or log.last + 1
if log.drift and since and low >= log.driftFrom - 1 then
  from = math.max(low, math.floor((since - log.drift) * 1000) - 1)
end
if log.drift and till then
  past = math.min(past, math.max(log.driftFrom, math.ceil((till + log.drift + 1) * 1000)))
end

local parts = cjson.decode(ARGV[16])
local isExact = #parts == 0 and events == '' and not since and not till
if isExact then rows = math.min(rows, limit) end
for i = 1, #parts do
  local tenants = parts[i].tenants
  parts[i].room = parts[i].room and ',"' .. parts[i].room .. '",'
  parts[i].tenants = tenants and {}
  for j = 1, tenants and #tenants or 0 do parts[i].tenants[tenants[j]] = true end
end
local FIRST_LIST = 18
local seqs
if ARGV[17] == 'all' then
  seqs = isAscending and slotsAfter(log, from, rows + 1) or slotsBefore(past, rows + 1)
elseif isAscending then
  seqs = seqsAfter(FIRST_LIST, from, rows + 1)
else
  seqs = newestSeqs(FIRST_LIST, rows + 1, past <= log.last and past or nil)
end
local inRange = 0
while inRange < #seqs do
  local seq = tonumber(seqs[inRange + 1])
  if seq <= from or seq >= past then break end
  inRange = inRange + 1
end

-- Event, rooms (each after `,"`, all before `",`), instant and tenant of a record. Without an escape in the header, a pattern
-- finds them in a fraction of the time of a JSON parser: ids hold no comma.
local function factsOf(seq)
  local start = call('GETRANGE', RECORD .. seq, 0, 1023)
  if start == '' then return nil end
  local header = string.match(start, '^[^\n]*\n') or string.match(call('GET', RECORD .. seq), '^[^\n]*\n')
  if not string.find(header, '\\', 1, true) then
    local event, rooms, at, tenant = string.match(header, '^%d+%["([^"]+)",%[(.-)%],%[.-%],(%d+),"%w+","%a?","([^"]+)",')
    return event, ',' .. rooms .. ',', tonumber(at), tenant
  end
  local h = headerOf(header)
  return h.event, ',"' .. table.concat(h.rooms, '","') .. '",', h.at, h.tenant
end
local function isWanted(seq)
  local event, rooms, at, tenant = factsOf(seq)
  if not event or (since and at < since) or (till and at > till) then return false end
  if events ~= '' and not string.find(events, ',' .. event .. ',', 1, true) then return false end
  for i = 1, #parts do
    local part = parts[i]
    if (not part.tenants or part.tenants[tenant]) and (not part.room or string.find(rooms, part.room, 1, true)) then
      return true
    end
  end
  return #parts == 0
end

local kept, looked = {}, 0
while looked < math.min(rows, inRange) and #kept < limit do
  looked = looked + 1
  if isExact or isWanted(seqs[looked]) then kept[#kept + 1] = seqs[looked] end
end
local processed = addRecords(out, kept, #kept, maxChars)
local last = processed < #kept and kept[processed] or seqs[looked]
if (processed < #kept or looked < inRange) and last then
  out[10], out[11] = last .. ' ' .. nonceAt(tonumber(last)), '1'
elseif not isAscending or (high and high <= low + 1) then
  out[10] = decimal(low) .. ' ' .. lowNonce
else
  out[10] = high and decimal(high - 1) .. ' ' .. nonceAt(high - 1) or decimal(log.last) .. ' ' .. log.nonce
end
return out
