#!lua flags=no-writes
-- Walks along an index, and gives or counts the rows that meet a filter. Looks at so many entries at most, and says where
-- it stopped.
-- KEYS: the state, the rows, the index.
-- ARGV: 1 generation, 2 its stamp, 3 what is wanted (rows, count, or keys: the value of a field and the id), 4 that field,
--       5 1 for backwards, 6 how many to skip, 7 how many to take, 8 how many entries to look at, 9 how many bytes to
--       give, 10 number of fields, 11 the kinds of the index' fields, 12 number of comparisons; for each its field,
--       operator and value; then for each stretch of the index where it begins, and where it ends before.
local state, rows, index = KEYS[1], KEYS[2], KEYS[3]
local known = redis.call('HMGET', state, ARGV[1] .. '/at', ARGV[1] .. '/made')
if known[2] ~= ARGV[2] or redis.call('EXISTS', rows, index) ~= 2 then
  return {'gone'}
end
local wanted, column, backwards = ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
local skip, take, entries, bytes = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local fields, kinds = tonumber(ARGV[10]), ARGV[11]
local filter, at = {}, 13
for number = 1, tonumber(ARGV[12]) do
  filter[number] = {column = tonumber(ARGV[at]), operator = ARGV[at + 1], value = ARGV[at + 2]}
  at = at + 3
end

-- By bytes: the language's own comparison goes by the server's locale.
local function less(a, b)
  for place = 1, math.min(#a, #b) do
    local x, y = string.byte(a, place), string.byte(b, place)
    if x ~= y then
      return x < y
    end
  end
  return #a < #b
end

local function holds(comparison, actual)
  local operator, value = comparison.operator, comparison.value
  if operator == '=' then
    return actual == value
  end
  -- Null is neither less nor greater than anything.
  if string.byte(actual, 1) == 2 or string.byte(value, 1) == 2 then
    return false
  end
  if operator == '<' then
    return less(actual, value)
  elseif operator == '<=' then
    return not less(value, actual)
  elseif operator == '>' then
    return less(value, actual)
  end
  return not less(actual, value)
end

local function values(row)
  local found, from = {}, 22
  for field = 1, fields do
    local length
    length, from = struct.unpack('>I4', row, from)
    found[field] = string.sub(row, from, from + length - 1)
    from = from + length
  end
  return found
end

-- The id behind the values in a member of the index.
local function id_of(entry)
  if kinds == '' then
    return string.sub(entry, 2)
  end
  local from = 1
  for number = 1, #kinds do
    local kind = string.sub(kinds, number, number)
    if string.byte(entry, from) == 2 then
      from = from + 1
    elseif kind == 'i' then
      from = from + 9
    elseif kind == 'b' then
      from = from + 2
    else
      local _, stop = string.find(entry, '\0\0', from + 1, true)
      from = stop + 1
    end
  end
  return string.sub(entry, from)
end

local CHUNK = 200
local given, looked, taken, size = {}, 0, 0, 0
local stretch = 0
while at < #ARGV do
  local low, high, offset = ARGV[at], ARGV[at + 1], 0
  stretch, at = stretch + 1, at + 2
  local within = true
  if #filter == 0 and (skip > 0 or wanted == 'count') then
    -- What is only counted is not looked at.
    local here = redis.call('ZLEXCOUNT', index, '[' .. low, '(' .. high)
    if wanted == 'count' then
      taken, within = taken + here, false
      if taken >= take then
        return {'done', known[1], take, given}
      end
    elseif here <= skip then
      skip, within = skip - here, false
    else
      offset, skip = skip, 0
    end
  end
  while within do
    local found
    if backwards then
      found = redis.call('ZREVRANGEBYLEX', index, '(' .. high, '[' .. low, 'LIMIT', offset, CHUNK)
    else
      found = redis.call('ZRANGEBYLEX', index, '[' .. low, '(' .. high, 'LIMIT', offset, CHUNK)
    end
    offset = 0
    for _, entry in ipairs(found) do
      local id = id_of(entry)
      local row = redis.call('HGET', rows, 'r' .. id)
      if not row then
        return {'gone'}
      end
      local meets = true
      local actual = (#filter > 0 or wanted == 'keys') and values(row)
      for _, comparison in ipairs(filter) do
        meets = meets and holds(comparison, actual[comparison.column])
      end
      if meets and skip > 0 then
        skip = skip - 1
      elseif meets then
        taken = taken + 1
        if wanted == 'rows' then
          given[#given + 1] = id
          given[#given + 1] = row
          size = size + #row
        elseif wanted == 'keys' then
          given[#given + 1] = actual[column]
          given[#given + 1] = id
        end
      end
      if taken >= take then
        return {'done', known[1], taken, given}
      end
      looked = looked + 1
      if backwards then
        high = entry
      else
        low = entry .. '\0'
      end
      if looked >= entries or size >= bytes then
        return {'more', known[1], taken, given, skip, stretch, low, high}
      end
    end
    within = #found == CHUNK
  end
end
return {'done', known[1], taken, given}
