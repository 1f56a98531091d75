#!lua flags=allow-oom
-- Forgets owner and checkpoint of a generation. What fences were given is remembered for all generations together.
-- KEYS: the state. ARGV: the generation.
local generation = ARGV[1]
redis.call('HDEL', KEYS[1], generation .. '/fence', generation .. '/at', generation .. '/fingerprint')
return 1
