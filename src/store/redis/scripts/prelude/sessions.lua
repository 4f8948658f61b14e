-- Deletes a session and its entries in the indexes.
local function forgetSession(pid)
  local holder = call('HGET', SESSION .. pid, 'holder')
  if holder then call('ZREM', SESSIONS_OF .. holder, pid) end
  call('ZREM', SESSION_INDEX, pid)
  call('UNLINK', SESSION .. pid)
end
