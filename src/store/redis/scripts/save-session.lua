#!lua
-- ARGV: session id, owner, holder, most sessions of the holder, data, expiresAtMs, '1' if whole, number of rooms to put,
-- their names and data, then rooms to remove. Returns 'saved', 'lost' or 'foreign'.
local pid, owner, holder = ARGV[1], ARGV[2], ARGV[3]
local key = SESSION .. pid
local savedOwner = call('HGET', key, 'owner')
if not savedOwner and ARGV[7] ~= '1' then return 'lost' end
if savedOwner and savedOwner ~= owner then return 'foreign' end
if ARGV[7] == '1' then
  forgetSession(pid)
  call('HSET', key, 'owner', owner, 'holder', holder, 'data', ARGV[5], 'expires', ARGV[6])
  call('ZADD', SESSION_INDEX, ARGV[6], pid)
  local ofHolder = SESSIONS_OF .. holder
  call('ZADD', ofHolder, ARGV[6], pid)
  local excess = call('ZCARD', ofHolder) - tonumber(ARGV[4])
  -- One more than the excess, because the new session may be among them.
  for _, other in ipairs(excess > 0 and call('ZRANGE', ofHolder, 0, excess) or {}) do
    if other ~= pid and excess > 0 then
      forgetSession(other)
      excess = excess - 1
    end
  end
end
local first = 9 + 2 * tonumber(ARGV[8])
for i = 9, first - 1, 2 do call('HSET', key, SESSION_ROOM .. ARGV[i], ARGV[i + 1]) end
for i = first, #ARGV do call('HDEL', key, SESSION_ROOM .. ARGV[i]) end
return 'saved'
