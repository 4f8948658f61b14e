#!lua flags=no-writes
-- Returns 1 if entries of an older format are left.
local log = readLog()
return log and log.upgrade and 1 or 0
