#!lua flags=allow-oom
-- Forgets a generation of which something was lost, and drops what is left.
-- KEYS: the state, and all that the generation should have. ARGV: the generation, its stamp.
local state, generation = KEYS[1], ARGV[1]
if redis.call('HGET', state, generation .. '/made') ~= ARGV[2] then
  return 0
end
if redis.call('EXISTS', unpack(KEYS, 2)) == #KEYS - 1 then
  return 0
end
local prefix = generation .. '/'
for _, field in ipairs(redis.call('HKEYS', state)) do
  if string.sub(field, 1, #prefix) == prefix then
    redis.call('HDEL', state, field)
  end
end
if redis.call('HGET', state, 'active') == generation then
  redis.call('HDEL', state, 'active')
end
redis.call('UNLINK', unpack(KEYS, 2))
return 1
