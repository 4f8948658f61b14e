#!lua flags=no-writes
-- A step of a page of tickets, newest first. ARGV: tenant, status or '', agreement or '', updatedAfter or '', the
-- position (an entry's `updatedAt,seq`) to continue before or '', number of entries, maxChars, number of ticket ids or
-- -1, the ids, number of agreement ids or -1, the ids. With ids, the page has the tickets of either list.
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

-- Lists of ids with this many tickets are looked up and sorted. Longer ones are a filter.
local NAMED = 500
-- Entries that one step examines.
local STEP = 1024

-- Without lists of ids, the tickets of an agreement come from its set.
if agreement ~= '' and not tickets and not agreements then agreements = { agreement } end
local named, members
if tickets or agreements then
  named, members = { tickets = {}, agreements = {} }, #(tickets or {})
  for i = 1, #(tickets or {}) do named.tickets[tickets[i]] = true end
  for i = 1, #(agreements or {}) do
    named.agreements[agreements[i]] = true
    members = members + call('SCARD', AGREEMENT .. tenant .. ',' .. agreements[i])
  end
end

local picked = {}
out[9] = ''
-- Returns whether the step is full.
local function pick(entry)
  local e = parse(entry)
  if (status == '' or e.status == status) and (agreement == '' or e.agreement == agreement)
    and (not named or named.tickets[e.ticket] or named.agreements[e.agreement]) then
    picked[#picked + 1] = entry
  end
  if #picked < want then return false end
  out[9] = positionOf(entry)
  return true
end

if named and members <= NAMED then
  local list = tickets or {}
  for i = 1, #(agreements or {}) do
    local found = call('SMEMBERS', AGREEMENT .. tenant .. ',' .. agreements[i])
    for j = 1, #found do list[#list + 1] = found[j] end
  end
  local entries, seen = {}, {}
  local got = #list > 0 and call('HMGET', TICKETS .. tenant, unpack(list)) or {}
  for i = 1, #got do
    local entry = got[i]
    if entry and not seen[entry] and (after == '' or newerFirst(entry, after .. ',9999999999999999,,,'))
      and (from == '' or newerFirst(from .. ',,,', entry)) then
      seen[entry] = true
      entries[#entries + 1] = entry
    end
  end
  table.sort(entries, newerFirst)
  for i = 1, #entries do
    if pick(entries[i]) then break end
  end
else
  -- A comma sorts before '-', and '-' before the digits: 'X-' sorts after all entries of the instant X, before later ones.
  local low = after == '' and '-' or '(' .. after .. '-'
  local high = from == '' and '+' or '(' .. from
  local chunk, examined, full = math.min(math.max(want, 64), STEP), 0, false
  while not full do
    local found = call('ZRANGE', RECENT .. tenant, high, low, 'BYLEX', 'REV', 'LIMIT', 0, chunk)
    for i = 1, #found do
      full = pick(found[i])
      if full then break end
    end
    examined = examined + #found
    if full or #found < chunk then break end
    high = '(' .. found[#found]
    if examined >= STEP then
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
