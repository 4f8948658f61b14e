#!lua flags=allow-oom
-- ARGV: '', or the answer for which the append-only file was rewritten since. Returns the number of the newest erasure for
-- which it was not rewritten yet, or false.
if ARGV[1] ~= '' and call('HGET', META, 'rewrite') == ARGV[1] then call('HDEL', META, 'rewrite') end
return call('HGET', META, 'rewrite')
