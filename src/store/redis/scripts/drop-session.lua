#!lua flags=allow-oom
-- ARGV: session id, owner.
if call('HGET', SESSION .. ARGV[1], 'owner') == ARGV[2] then forgetSession(ARGV[1]) end
