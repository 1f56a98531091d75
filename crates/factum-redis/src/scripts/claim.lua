#!lua
-- Gives a generation a new owner.
-- KEYS: the state. ARGV: the generation, the fingerprint, the place before every record.
-- Fences are microseconds of the server's clock, and greater than all that the state knows of: so none comes up again
-- when the server has lost what it knew. As numbers they stay below 2^53 until the year 2255.
local state, generation = KEYS[1], ARGV[1]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local last = tonumber(redis.call('HGET', state, 'fences') or '0')
local fence = string.format('%020.0f', math.max(last + 1, now))
redis.call('HSET', state, 'fences', fence, generation .. '/fence', fence)
if redis.call('HGET', state, generation .. '/fingerprint') ~= ARGV[2] then
  redis.call('HSET', state, generation .. '/fingerprint', ARGV[2], generation .. '/at', ARGV[3])
end
return {fence, redis.call('HGET', state, generation .. '/at')}
