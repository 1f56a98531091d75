#!lua flags=allow-oom
-- Drops the rows of a generation that readers don't see.
-- KEYS: the state, and all that the generation has. ARGV: the generation, its stamp, its views.
-- A key of many rows is only unlinked here: the server frees it beside its work.
local state, generation = KEYS[1], ARGV[1]
if redis.call('HGET', state, 'active') == generation then
  return 'seen'
end
if redis.call('HGET', state, generation .. '/made') ~= ARGV[2] then
  return 'other'
end
for number = 3, #ARGV do
  redis.call('HDEL', state, generation .. '/view/' .. ARGV[number])
end
redis.call('HDEL', state, generation .. '/made')
if #KEYS > 1 then
  redis.call('UNLINK', unpack(KEYS, 2))
end
return 'dropped'
