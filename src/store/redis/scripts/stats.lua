#!lua flags=no-writes
-- Returns the number of records, then when the oldest and the newest were accepted, if there are any.
local log = readLog()
if not log or log.records == 0 then return { 0 } end
local _, slots = slotsAfter(log, log.trimmed, 1)
local newest = call('XREVRANGE', FEED, '+', '-', 'COUNT', 1)[1]
return { log.records, decimal(timeOf(slots[1])), decimal(timeOf(string.sub(newest[2][2], -SLOT))) }
