-- Lists of rising seqs (ROOM, MESSAGES), and the merge of several.

-- How many seqs of a list are at most `seq`. This is also the index of the first one after it.
local function countThrough(key, seq)
  local low, high = 0, call('LLEN', key)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if tonumber(call('LINDEX', key, middle)) <= seq then low = middle + 1 else high = middle end
  end
  return low
end

local function numbers(list, backwards)
  local out, n = {}, #list
  for i = 1, n do out[i] = tonumber(list[backwards and n + 1 - i or i]) end
  return out
end

-- Merges `k` sorted sources. Returns their first `want` numbers without repeats, and perhaps some more. fetch(i, n)
-- returns the next n or more numbers of source i, and whether it is exhausted. A source is fetched again only while
-- it may hold a number before the last one wanted.
local function merge(k, want, fetch, before)
  local chunk = k == 1 and want or math.max(8, math.ceil(want / k) + 1)
  local reached, drained, found, seen = {}, {}, {}, {}
  while true do
    local bound, horizon = found[want], nil
    for i = 1, k do
      if not drained[i] and (not bound or not reached[i] or before(reached[i], bound)) then
        local got
        got, drained[i] = fetch(i, chunk)
        for j = 1, #got do
          if not seen[got[j]] then
            seen[got[j]] = true
            found[#found + 1] = got[j]
          end
        end
        reached[i] = got[#got] or reached[i]
      end
      if not drained[i] and (not horizon or before(reached[i], horizon)) then horizon = reached[i] end
    end
    if k > 1 then table.sort(found, before) end
    if not horizon or (found[want] and not before(horizon, found[want])) then break end
    chunk = chunk * 2
  end
  for i = 1, #found do found[i] = decimal(found[i]) end
  return found
end

-- At least the first `want` seqs after `seq` in the rooms of ARGV[first] and later.
local function seqsAfter(first, seq, want)
  local indexes = {}
  return merge(#ARGV - first + 1, want, function(i, n)
    local key = ROOM .. ARGV[first + i - 1]
    if not indexes[i] then
      -- Most readers are a few records behind: the end of the list spares them the search.
      local got = numbers(call('LRANGE', key, -16, -1))
      if #got < 16 or got[1] <= seq then
        local after = {}
        for j = 1, #got do
          if got[j] > seq then after[#after + 1] = got[j] end
        end
        return after, true
      end
      indexes[i] = countThrough(key, seq)
    end
    local got = numbers(call('LRANGE', key, indexes[i], indexes[i] + n - 1))
    indexes[i] = indexes[i] + n
    return got, #got < n
  end, function(a, b) return a < b end)
end

-- At least the newest `want` seqs in the rooms of ARGV[first] and later, newest first; given `before`, only lower ones.
local function newestSeqs(first, want, before)
  local taken = {}
  return merge(#ARGV - first + 1, want, function(i, n)
    local key = ROOM .. ARGV[first + i - 1]
    local skip = taken[i] or (before and call('LLEN', key) - countThrough(key, before - 1) or 0)
    taken[i] = skip + n
    local got = call('LRANGE', key, -(skip + n), -(skip + 1))
    return numbers(got, true), #got < n
  end, function(a, b) return a > b end)
end
