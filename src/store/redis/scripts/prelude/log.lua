-- The log's bounds and its feed.

local call = redis.call

-- Numbers are doubles, exact to 2^53, but tostring() keeps only 14 digits.
local function decimal(number) return string.format('%.0f', number) end

-- Returns nil if this Redis holds no log of this format or an older one.
local function readLog()
  local m = call('HMGET', META, 'epoch', 'keying', 'last', 'nonce', 'trimmed', 'trimmedNonce', 'changes', 'erasures',
    'records', 'tombstones', 'format', 'upgrade', 'drift', 'driftFrom')
  if not m[1] then return nil end
  if m[11] ~= FORMAT then error({ err = 'FORMAT ' .. m[11] .. ' ' .. FORMAT }) end
  return { epoch = m[1], keying = m[2], last = tonumber(m[3]), nonce = m[4], trimmed = tonumber(m[5]),
    trimmedNonce = m[6], changes = m[7], erasures = m[8], records = tonumber(m[9]), tombstones = tonumber(m[10]),
    upgrade = m[12], drift = tonumber(m[13] or nil), driftFrom = tonumber(m[14] or nil) }
end

-- Takes over a log of format 1. Its entries of DEDUPE are converted later (upgrade.lua), in steps.
local function upgradeLog()
  if call('TYPE', FORMAT_1).ok ~= 'hash' then return nil end
  call('RENAME', FORMAT_1, META)
  call('HSET', META, 'format', FORMAT, 'upgrade', '1')
  call('SET', FORMAT_1, 'This log has format ' .. FORMAT .. '. Stop nodes of older versions.')
  return readLog()
end

-- Returns the log. Creates it, with a new epoch, if this Redis holds none.
local function openLog(epoch, keying)
  local log = readLog() or upgradeLog()
  if log then return log end
  call('DEL', FEED)
  call('SET', FORMAT_1, 'This log has format ' .. FORMAT .. '. Stop nodes of older versions.')
  call('HSET', META, 'format', FORMAT, 'epoch', epoch, 'keying', keying, 'last', '0', 'nonce', '0000', 'trimmed', '0',
    'trimmedNonce', '0000', 'changes', '0', 'erasures', '0', 'records', '0', 'tombstones', '0')
  return readLog()
end

local function nonceOf(slot) return string.sub(slot, 1, 4) end
local function timeOf(slot) return tonumber(string.sub(slot, 5)) end
-- Of an entry of FEED, whose id is `{seq}-0`.
local function firstSeqOf(entry) return tonumber(string.sub(entry[1], 1, -3)) end

-- The entry that holds `seq`, or the last one before it.
local function entryAt(seq) return call('XREVRANGE', FEED, decimal(seq) .. '-0', '-', 'COUNT', 1)[1] end

-- Returns the seqs and the slots after `seq`: up to `limit`, plus the rest of the last entry.
local function slotsAfter(log, seq, limit)
  local seqs, found = {}, {}
  -- The feed starts after the trimmed part: to look for that with `entryAt` would be to walk back through a whole node.
  local entry = seq > log.trimmed and entryAt(seq)
  local from = entry and entry[1] or '-'
  -- The entry at `from` may have no slot after `seq`.
  local count = math.min(32, limit + 1)
  while #seqs < limit do
    local entries = call('XRANGE', FEED, from, '+', 'COUNT', count)
    for i = 1, #entries do
      local first, slots = firstSeqOf(entries[i]), entries[i][2][2]
      for at = math.max(0, seq + 1 - first), #slots / SLOT - 1 do
        local n = #seqs + 1
        seqs[n] = decimal(first + at)
        found[n] = string.sub(slots, at * SLOT + 1, at * SLOT + SLOT)
      end
      if #seqs >= limit then break end
    end
    if #entries < count then break end
    from = '(' .. entries[#entries][1]
  end
  return seqs, found
end

-- Returns the seqs before `before`, newest first: up to `limit`, and perhaps some of trimmed records.
local function slotsBefore(before, limit)
  local seqs, from = {}, decimal(before - 1) .. '-0'
  while #seqs < limit do
    local entries = call('XREVRANGE', FEED, from, '-', 'COUNT', 32)
    for i = 1, #entries do
      local first = firstSeqOf(entries[i])
      local at = math.min(before - 1, first + #entries[i][2][2] / SLOT - 1)
      while at >= first and #seqs < limit do
        seqs[#seqs + 1] = decimal(at)
        at = at - 1
      end
    end
    if #entries < 32 then break end
    from = '(' .. entries[#entries][1]
  end
  return seqs
end

-- Returns the seq and nonce of the oldest record. After 63 tombstones it gives up the search and returns the next slot.
local function oldestRecord(log)
  local seqs, slots = slotsAfter(log, log.trimmed, log.tombstones > 0 and 64 or 1)
  local at = 1
  if log.tombstones > 0 then
    while seqs[at] and at < 64 and call('EXISTS', RECORD .. seqs[at]) == 0 do at = at + 1 end
  end
  if not seqs[at] then return decimal(log.last), log.nonce end
  return seqs[at], nonceOf(slots[at])
end

-- The eight values with which every answer about the log starts; parseLogAnswer() in log.ts names them.
local function logAnswer(status, log)
  return { status, log.epoch, decimal(log.last), log.nonce, decimal(log.trimmed), log.trimmedNonce, oldestRecord(log) }
end

-- Of a record after `trimmed`, erased or not.
local function nonceAt(seq)
  local entry = entryAt(seq)
  if not entry then return nil end
  local at = seq - firstSeqOf(entry)
  return string.sub(entry[2][2], at * SLOT + 1, at * SLOT + 4)
end

-- Whether the log can be read after a cursor: 'ok', 'expired' or 'unknown'. Of the trimmed records only the last nonce
-- is known.
local function resolve(log, epoch, seq, nonce)
  local n = tonumber(seq)
  if epoch ~= log.epoch or n > log.last then return 'unknown' end
  if n == log.last then return nonce == log.nonce and 'ok' or 'unknown' end
  if n == 0 and nonce ~= '0000' then return 'unknown' end
  if n < log.trimmed then return 'expired' end
  if n == log.trimmed then return nonce == log.trimmedNonce and 'ok' or 'unknown' end
  return nonceAt(n) == nonce and 'ok' or 'unknown'
end

local function wakeTails()
  call('XADD', CHANGES, 'MAXLEN', 1, decimal(call('HINCRBY', META, 'changes', 1)) .. '-0', 'n', '')
end
