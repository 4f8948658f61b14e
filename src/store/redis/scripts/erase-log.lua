#!lua flags=allow-oom
-- Erases the records of a list of ROOM; their slots stay as tombstones. ARGV: list, tenant, ticket or '' for all, the seq to
-- continue after, slice (records to examine now). Returns the seq to continue after or false, and the number erased.

-- Makes the state of another ticket forget a record that went to the room of this one.
local function forgetRecord(log, h, seq)
  if h.kind == 't' then
    local entry = call('HGET', TICKETS .. h.tenant, h.ticket)
    local e = entry and parseEntry(entry)
    if e and tonumber(e.seq) == tonumber(seq) then forgetEntry(h.tenant, e) end
  else
    local message = messageOf(log, h)
    if message and message.shown == seq then
      call('HSET', CHANGED .. h.tenant .. ',' .. h.ticket, message.first, 'x')
    end
  end
end

local log = readLog()
if not log then return { false, 0 } end
local tenant, ticket, slice = ARGV[2], ARGV[3], tonumber(ARGV[5])
local room = ROOM .. ARGV[1]
local from = countThrough(room, tonumber(ARGV[4]))
local seqs = call('LRANGE', room, from, from + slice - 1)
local erased, indexes = {}, {}
for i = 1, #seqs do
  local h = readHeader(seqs[i])
  -- If audiences are keyed by room, this one can also hold records of another tenant.
  if h and h.tenant == tenant then
    erased[#erased + 1] = RECORD .. seqs[i]
    forgetIdempotency(h.idempotencyKey)
    if h.ticket ~= ticket and h.kind ~= '' then forgetRecord(log, h, seqs[i]) end
    local lists = listsOf(h.tenant, h.ticket, h.rooms, h.audiences)
    for j = 1, #lists do
      local key = ROOM .. lists[j]
      indexes[key] = indexes[key] or {}
      indexes[key][#indexes[key] + 1] = countThrough(key, tonumber(seqs[i])) - 1
    end
  end
end
-- Seqs are overwritten with 0 first, so that one pass over each list removes them all. It begins at the nearer end, and it
-- ends with the last of them.
for key, list in pairs(indexes) do
  for i = 1, #list do call('LSET', key, list[i], '0') end
  local isNearEnd = list[1] + list[#list] > call('LLEN', key)
  call('LREM', key, isNearEnd and -#list or #list, '0')
end
if #erased > 0 then
  unlink(erased)
  call('HSET', META, 'records', decimal(log.records - #erased), 'tombstones', decimal(log.tombstones + #erased))
  call('HINCRBY', META, 'erasures', 1)
  wakeTails()
end
return { #seqs == slice and seqs[#seqs], #erased }
