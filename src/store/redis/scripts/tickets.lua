#!lua flags=no-writes
-- A step of a page of tickets, newest first. ARGV: tenant, status or '', agreement or '', updatedAfter or '', the
-- position (an entry's `updatedAt,seq`) to continue before or '', number of entries wanted, maxChars, number of ticket
-- ids or -1, the ids, number of agreement ids or -1, the ids. With ids, the page has the tickets of either list.
-- Adds to the answer: the position to continue from ('' at the end), then position, record, …
-- A step examines a bounded number of entries, so that a rare status in a large tenant does not hold up appends.
local log = readLog()
if not log then return { 'none' } end
local out = logAnswer('ok', log)
local tenant, status, agreement, after, from, want = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local arg = 8
local function ids()
  local n = tonumber(ARGV[arg])
  local list = n >= 0 and {} or nil
  for i = 1, n do list[i] = ARGV[arg + i] end
  arg = arg + 1 + math.max(n, 0)
  return list
end
local tickets, agreements = ids(), ids()

local parsed = {}
local function parse(entry)
  parsed[entry] = parsed[entry] or parseEntry(entry)
  return parsed[entry]
end
local function newerFirst(a, b)
  local x, y = parse(a), parse(b)
  if x.seconds ~= y.seconds then return x.seconds > y.seconds end
  if x.fraction ~= y.fraction then return x.fraction > y.fraction end
  return x.seq > y.seq
end
local function positionOf(entry) return string.match(entry, '^[^,]*,%d+') end

local picked = {}
out[9] = ''
local function pick(entry)
  if #picked == want or (status ~= '' and parse(entry).status ~= status) then return end
  if agreement == '' or parse(entry).agreement == agreement then picked[#picked + 1] = entry end
end

-- Without lists of ids, the tickets of an agreement come from its set.
if agreement ~= '' and not tickets and not agreements then agreements = { agreement } end
if agreements then
  tickets = tickets or {}
  for i = 1, #agreements do
    local members = call('SMEMBERS', AGREEMENT .. tenant .. ',' .. agreements[i])
    for j = 1, #members do tickets[#tickets + 1] = members[j] end
  end
end

if tickets then
  local entries, seen = {}, {}
  for at = 1, #tickets, 500 do
    local got = call('HMGET', TICKETS .. tenant, unpack(tickets, at, math.min(at + 499, #tickets)))
    for i = 1, #got do
      local entry = got[i]
      if entry and not seen[entry] and (after == '' or newerFirst(entry, after .. ',9999999999999999,,,'))
        and (from == '' or newerFirst(from .. ',,,', entry)) then
        seen[entry] = true
        entries[#entries + 1] = entry
      end
    end
  end
  table.sort(entries, newerFirst)
  for i = 1, #entries do pick(entries[i]) end
else
  -- A comma sorts before '-', and '-' before the digits: 'X-' sorts after all entries of the instant X, before later ones.
  local low = after == '' and '-' or '(' .. after .. '-'
  local high = from == '' and '+' or '(' .. from
  local examined = 0
  while true do
    local found = call('ZRANGE', RECENT .. tenant, high, low, 'BYLEX', 'REV', 'LIMIT', 0, want)
    for i = 1, #found do pick(found[i]) end
    examined = examined + #found
    if #found < want or #picked == want then break end
    high = '(' .. found[#found]
    if examined >= 2000 then
      out[9] = positionOf(found[#found])
      break
    end
  end
end

local seqs, positions = {}, {}
for i = 1, #picked do seqs[i], positions[i] = decimal(tonumber(parse(picked[i]).seq)), positionOf(picked[i]) end
local processed = addRecords(out, seqs, #seqs, tonumber(ARGV[7]), positions)
if processed < #seqs then out[9] = positions[processed] end
return out
