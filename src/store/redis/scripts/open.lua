#!lua
-- Creates the log if there is none; also the probe that tells whether Redis accepts writes.
-- ARGV: epoch for a new log, keying.
local log = openLog(ARGV[1], ARGV[2])
local out = logAnswer('ok', log)
out[9] = log.keying
return out
