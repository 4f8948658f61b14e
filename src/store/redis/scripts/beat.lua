#!lua flags=allow-oom
-- The clock of Redis: seconds and microseconds since 1970. A Redis that is not the master (any more) refuses it.
return call('TIME')
