#!lua
-- Begins a generation, if it hasn't begun: gives it a stamp that no generation before it under the same number had.
-- KEYS: the state. ARGV: the generation.
-- Gives the stamp, and whether there was no state at all before.
local state, field = KEYS[1], ARGV[1] .. '/made'
local made = redis.call('HGET', state, field)
if made then
  return {made, 0}
end
local fresh = 1 - redis.call('EXISTS', state)
local time = redis.call('TIME')
made = string.format('%010d%06d', time[1], time[2])
redis.call('HSET', state, field, made)
return {made, fresh}
