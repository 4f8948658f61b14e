#!lua
-- Creates the log if there is none; also the probe that tells whether Redis accepts writes, and that this node lives.
-- ARGV: epoch for a new log, keying, the node's CLAIMED_ROOM_KINDS, ms until the node counts as gone.
-- Adds to the answer: the keying, and the CLAIMED_ROOM_KINDS of live nodes, of which this node is one if they are its own.
local log = openLog(ARGV[1], ARGV[2])
local out = logAnswer('ok', log)
out[9], out[10] = log.keying, ARGV[3]
local time = call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
call('ZREMRANGEBYSCORE', CLAIMED, '-inf', decimal(now))
local live = call('ZRANGE', CLAIMED, 0, -1)
for i = 1, #live do
  if live[i] ~= ARGV[3] then
    out[10] = live[i]
    return out
  end
end
if log.keying == ARGV[2] then call('ZADD', CLAIMED, decimal(now + tonumber(ARGV[4])), ARGV[3]) end
return out
