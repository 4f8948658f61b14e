#!lua flags=no-writes
-- A step of a page of tickets, newest first. ARGV: tenant, status or '', agreement or '', updatedAfter or '', the
-- position (an entry's `updatedAt,seq`) to continue before or '', number of entries, maxChars, the kinds of rooms that the
-- caller may hear ('*' for all, else each between commas), single rooms that it may hear.
-- Adds to the answer: the position to continue from ('' at the end), then position, record, …
-- A step examines a bounded number of entries, so that a rare status in a large tenant does not hold up appends.
local log = readLog()
if not log then return { 'none' } end
local out = logAnswer('ok', log)
local tenant, status, agreement, after, from, want = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local kinds, hears = ARGV[8], {}
for i = 9, #ARGV do hears[ARGV[i]] = true end
local isBroad = kinds ~= ',' or hears['tenant:' .. tenant]

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

local function isHeard(e)
  if kinds == '*' then return true end
  if e.rooms == '' then
    if hears['tenant:' .. tenant] or hears['ticket:' .. e.ticket] or hears['agreement:' .. e.agreement] then return true end
    return string.find(kinds, ',tenant,', 1, true) or string.find(kinds, ',ticket,', 1, true)
      or (e.agreement ~= '' and string.find(kinds, ',agreement,', 1, true))
  end
  for room, kind in string.gmatch(e.rooms, '(([^ :]+):%S+)') do
    if hears[room] or string.find(kinds, ',' .. kind .. ',', 1, true) then return true end
  end
  return false
end

-- What was found, each once, and the newest entry after which some place was not searched.
local found, seen, horizon = {}, {}, nil
local function keep(entry)
  if seen[entry] then return end
  seen[entry] = true
  local e = parse(entry)
  if (status == '' or e.status == status) and (agreement == '' or e.agreement == agreement) and isHeard(e) then
    found[#found + 1] = entry
  end
end

-- Sets of tickets with this many members are looked up and sorted. Longer ones are a filter.
local NAMED = 500
-- Entries that one step examines.
local STEP = 1024

local function lookUp(tickets)
  local entries = #tickets > 0 and call('HMGET', TICKETS .. tenant, unpack(tickets)) or {}
  for i = 1, #entries do
    local entry = entries[i]
    if entry and (after == '' or newerFirst(entry, after .. ',9999999999999999,,,'))
      and (from == '' or newerFirst(from .. ',,,', entry)) then
      keep(entry)
    end
  end
end

-- Searches a sorted set of entries until `want` more are found, or `most` were examined.
local function search(key, most)
  -- A comma sorts before '-', and '-' before the digits: 'X-' sorts after all entries of the instant X, before later ones.
  local low = after == '' and '-' or '(' .. after .. '-'
  local high = from == '' and '+' or '(' .. from
  local chunk, examined, enough = math.min(math.max(want, 64), most), 0, #found + want
  while true do
    local entries = call('ZRANGE', key, high, low, 'BYLEX', 'REV', 'LIMIT', 0, chunk)
    for i = 1, #entries do keep(entries[i]) end
    examined = examined + #entries
    if #entries < chunk then return end
    local last = entries[#entries]
    high = '(' .. last
    if #found >= enough or examined >= most then
      if not horizon or newerFirst(last, horizon) then horizon = last end
      return
    end
  end
end

local function ticketsOf(id) return call('SMEMBERS', AGREEMENT .. tenant .. ',' .. id) end
local function countOf(id) return call('SCARD', AGREEMENT .. tenant .. ',' .. id) end

if agreement ~= '' and countOf(agreement) <= NAMED then
  lookUp(ticketsOf(agreement))
elseif isBroad then
  search(RECENT .. tenant, STEP)
else
  local tickets, agreements, members, keys = {}, {}, 0, {}
  for i = 9, #ARGV do
    local kind, id = string.match(ARGV[i], '^([^:]*):(.*)$')
    if kind == 'ticket' then tickets[#tickets + 1] = id end
    if kind == 'agreement' then
      agreements[#agreements + 1] = id
      members = members + countOf(id)
    end
    keys[#keys + 1] = SHOWN .. tenant .. ',' .. ARGV[i]
  end
  lookUp(tickets)
  if members > NAMED then
    search(RECENT .. tenant, STEP)
  else
    for i = 1, #agreements do lookUp(ticketsOf(agreements[i])) end
    local most = #keys > 0 and call('EXISTS', unpack(keys)) or 0
    if most > 0 then
      for i = 1, #keys do search(keys[i], math.max(8, math.floor(STEP / most))) end
    end
  end
end

table.sort(found, newerFirst)
local seqs, positions = {}, {}
for i = 1, #found do
  if i > want or (horizon and newerFirst(horizon, found[i])) then break end
  seqs[i], positions[i] = decimal(tonumber(parse(found[i]).seq)), positionOf(found[i])
end
out[9] = ''
local processed = addRecords(out, seqs, #seqs, tonumber(ARGV[7]), positions)
if processed < #seqs or #seqs == want then
  out[9] = positions[processed]
elseif horizon then
  out[9] = positionOf(horizon)
end
return out
