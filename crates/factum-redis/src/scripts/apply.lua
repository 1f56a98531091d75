#!lua
-- Writes rows and moves the checkpoint, on condition of fence and checkpoint.
-- KEYS: the state; for each view of the generation its rows and its indexes.
-- ARGV: 1 generation, 2 its stamp, 3 fence, 4 from, 5 to, 6 whether readers see it from now on, unless they see a later one, 7 number of views;
--       for each view the number of its fields, that of its indexes, and for each index the fields that it is of;
--       for each row its view, its id and itself as it is kept.
-- A row as it is kept: version (20 digits), P; for each field its length (4 bytes) and its value; the document. Of a
-- deleted row: version, D. Nothing here looks at a document, and no number is computed with.
-- All is looked at before anything is written: a script that fails in the middle is not undone.
local state, generation = KEYS[1], ARGV[1]
local known = redis.call('HMGET', state, generation .. '/fence', generation .. '/at', generation .. '/made')
if known[1] ~= ARGV[3] then
  return {'fenced', known[1] or ''}
end
if known[2] ~= ARGV[4] then
  return {'moved', known[2] or ''}
end
if (known[3] or '') ~= ARGV[2] then
  return {'gone'}
end
if #KEYS > 1 and redis.call('EXISTS', unpack(KEYS, 2)) ~= #KEYS - 1 then
  return {'gone'}
end

local views, key, at = {}, 2, 8
for number = 1, tonumber(ARGV[7]) do
  local view = {rows = KEYS[key], fields = tonumber(ARGV[at]), indexes = {}}
  local indexes = tonumber(ARGV[at + 1])
  key, at = key + 1, at + 2
  for index = 1, indexes do
    local columns = {}
    for column in string.gmatch(ARGV[at], '%d+') do
      columns[#columns + 1] = tonumber(column)
    end
    view.indexes[index] = {key = KEYS[key], columns = columns}
    key, at = key + 1, at + 1
  end
  views[number] = view
end

-- The values of the declared fields; nothing of a row that was deleted.
local function values(row, fields)
  if string.sub(row, 21, 21) ~= 'P' then
    return nil
  end
  local found, from = {}, 22
  for field = 1, fields do
    local length
    length, from = struct.unpack('>I4', row, from)
    found[field] = string.sub(row, from, from + length - 1)
    from = from + length
  end
  return found
end

-- The member of an index that leads to a row.
local function member(columns, found, id)
  if #columns == 0 then
    return '\1' .. id
  end
  local parts = {}
  for number, column in ipairs(columns) do
    parts[number] = found[column]
  end
  parts[#parts + 1] = id
  return table.concat(parts)
end

local writes = {}
while at <= #ARGV do
  local view, id, row = views[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2]
  at = at + 3
  local old = redis.call('HGET', view.rows, 'r' .. id)
  -- Digits only, and as many: their order is that of the numbers in every locale.
  if not old or string.sub(old, 1, 20) <= string.sub(row, 1, 20) then
    local write = {view = view, id = id, row = row, after = values(row, view.fields)}
    if old then
      write.before = values(old, view.fields)
    end
    writes[#writes + 1] = write
  end
end

for _, write in ipairs(writes) do
  redis.call('HSET', write.view.rows, 'r' .. write.id, write.row)
  for _, index in ipairs(write.view.indexes) do
    local before = write.before and member(index.columns, write.before, write.id)
    local after = write.after and member(index.columns, write.after, write.id)
    if before ~= after then
      if before then
        redis.call('ZREM', index.key, before)
      end
      if after then
        redis.call('ZADD', index.key, 0, after)
      end
    end
  end
end
redis.call('HSET', state, generation .. '/at', ARGV[5])
if ARGV[6] == '1' then
  -- Whoever built this one while a later one was let see was overtaken.
  local active = redis.call('HGET', state, 'active')
  if not active or tonumber(active) < tonumber(generation) then
    redis.call('HSET', state, 'active', generation)
  end
end
return {'done'}
