#!lua
-- ARGV: name, a fresh secret. Returns the secret of that name: the fresh one if there was none.
call('HSETNX', SECRETS, ARGV[1], ARGV[2])
return call('HGET', SECRETS, ARGV[1])
