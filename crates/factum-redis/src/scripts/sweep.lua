#!lua flags=allow-oom
-- Drops a key of a generation that the state doesn't know.
-- KEYS: the state, the key. ARGV: the generation, its stamp.
if redis.call('HGET', KEYS[1], ARGV[1] .. '/made') == ARGV[2] then
  return 0
end
return redis.call('UNLINK', KEYS[2])
