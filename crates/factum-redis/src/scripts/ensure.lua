#!lua
-- Prepares a view of a generation.
-- KEYS: the state, the rows, the indexes. ARGV: the generation, its stamp, the view, its definition.
-- Each key has a member that is no row, so that a key that is not there is one that was lost.
local state, generation = KEYS[1], ARGV[1]
if redis.call('HGET', state, generation .. '/made') ~= ARGV[2] then
  return 'other'
end
local field = generation .. '/view/' .. ARGV[3]
local known = redis.call('HGET', state, field)
if known then
  if known ~= ARGV[4] then
    return 'differs'
  end
  if redis.call('EXISTS', unpack(KEYS, 2)) ~= #KEYS - 1 then
    return 'gone'
  end
  return 'kept'
end
redis.call('HSET', KEYS[2], 'm', '1')
for index = 3, #KEYS do
  redis.call('ZADD', KEYS[index], 0, '\0')
end
redis.call('HSET', state, field, ARGV[4])
return 'made'
