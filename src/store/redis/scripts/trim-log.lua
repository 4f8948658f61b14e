#!lua flags=allow-oom
-- Trims the oldest records. ARGV: trimBeforeMs, maxRecords, slice (records to examine now). Returns 1 if there are more.
local log = readLog()
if not log then return 0 end
local before, slice = tonumber(ARGV[1]), tonumber(ARGV[3])
local excess = log.records - tonumber(ARGV[2])
local seqs, slots = slotsAfter(log, log.trimmed, slice)
if not seqs[1] or (excess <= 0 and timeOf(slots[1]) >= before) then return 0 end

local count = math.min(#seqs, slice)
local unneeded, trimmed, perRoom, through = {}, 0, {}, 0
for i = 1, count do
  if timeOf(slots[i]) >= before and excess <= 0 then break end
  through = i
  local h = readHeader(seqs[i])
  if h then
    trimmed = trimmed + 1
    excess = excess - 1
    local lists = listsOf(h.tenant, h.ticket, h.rooms, h.audiences)
    for j = 1, #lists do perRoom[lists[j]] = (perRoom[lists[j]] or 0) + 1 end
    local needed = false
    if h.kind == 'm' then
      -- The state forgets the messages of a ticket oldest first.
      local oldest = call('LINDEX', MESSAGES .. h.tenant .. ',' .. h.ticket, 0)
      needed = oldest and tonumber(oldest) <= tonumber(seqs[i])
      local change = needed and call('HGET', CHANGED .. h.tenant .. ',' .. h.ticket, seqs[i])
      if change and parseChange(seqs[i], change).shown ~= seqs[i] then stub(seqs[i]) end
    elseif h.kind == 'c' then
      local message = messageOf(log, h)
      needed = message and (message.shown == seqs[i] or message.first == seqs[i])
      if needed and message.shown ~= seqs[i] then stub(seqs[i]) end
    elseif h.kind == 't' then
      local entry = call('HGET', TICKETS .. h.tenant, h.ticket)
      needed = entry and tonumber(parseEntry(entry).seq) == tonumber(seqs[i])
    end
    if not needed then unneeded[#unneeded + 1] = RECORD .. seqs[i] end
  end
end

local last = tonumber(seqs[through])
unlink(unneeded)
for audience, expected in pairs(perRoom) do
  -- The number of records trimmed of a room is usually the number of seqs to drop: two reads in place of a search.
  local key = ROOM .. audience
  local edge = call('LRANGE', key, expected - 1, expected)
  local fits = edge[1] and tonumber(edge[1]) <= last and (not edge[2] or tonumber(edge[2]) > last)
  call('LTRIM', key, fits and expected or countThrough(key, last), -1)
end
-- The entry with the next slot stays, even if that slot is not its first.
local entry = entryAt(last + 1)
if entry and firstSeqOf(entry) + #entry[2][2] / SLOT - 1 > last then
  call('XTRIM', FEED, 'MINID', entry[1])
else
  call('XTRIM', FEED, 'MINID', decimal(last + 1) .. '-0')
end
call('HSET', META, 'trimmed', seqs[through], 'trimmedNonce', nonceOf(slots[through]),
  'records', decimal(log.records - trimmed), 'tombstones', decimal(log.tombstones - (through - trimmed)))
wakeTails()
return through == count and #seqs >= slice and 1 or 0
