-- One batch, all or nothing: Redis runs nothing else meanwhile, and logs its effects as one transaction.
-- ARGV: prefix, writer, plan (MessagePack; numbers as text, for Lua's lose digits), then the bodies in the plan's order.
-- Answers {'done'}, {'conflict', partition, stored} or {'fenced'}.
local prefix, writer, plan = ARGV[1], ARGV[2], cmsgpack.unpack(ARGV[3])
local call, used = redis.call, 3

local function body()
  used = used + 1
  return ARGV[used]
end

for partition, move in pairs(plan.offsets) do
  local stored = call('HGET', prefix .. 'offsets', partition) or '0'
  if stored ~= move[1] then return { 'conflict', partition, stored } end
end
if plan.fence then
  local held = call('GET', prefix .. 'lease:' .. plan.fence[1])
  if not held or string.match(held, '^%d+') ~= plan.fence[2] then return { 'fenced' } end
end

local now = call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)

-- What a user owns, by when it expires. It may name what is no longer theirs: erasure asks the record.
local function own(owner, member, ttl_ms)
  local owned = prefix .. 'owned:' .. owner
  local fresh = call('EXISTS', owned) == 0
  call('ZREMRANGEBYSCORE', owned, '-inf', string.format('%.0f', now_ms))
  if ttl_ms then
    call('ZADD', owned, string.format('%.0f', now_ms + ttl_ms), member)
    if fresh then call('PEXPIRE', owned, ttl_ms) else call('PEXPIRE', owned, ttl_ms, 'GT') end
  else
    call('ZADD', owned, 'inf', member)
    call('PERSIST', owned)
  end
end

-- A command for many keys costs a fraction of many commands. Lua passes at most some thousand arguments.
local function in_bulk(command, args, key)
  for i = 1, #args, 2000 do
    local last = math.min(i + 1999, #args)
    if key then call(command, key, unpack(args, i, last)) else call(command, unpack(args, i, last)) end
  end
end

for _, part in ipairs(plan.kinds) do
  local base, ids, ttl_ms = prefix .. part.kind .. ':', prefix .. 'ids:' .. part.kind, part.ttl_ms
  local records, indexed = {}, {}
  local function index(id)
    if part.indexed then
      indexed[#indexed + 1] = 0
      indexed[#indexed + 1] = id
    end
  end
  for _, id in ipairs(part.deletes) do
    call('DEL', base .. 'r:' .. id, base .. 'c:' .. id, base .. 'l:' .. id)
    if part.indexed then call('ZREM', ids, id) end
  end
  for _, id in ipairs(part.puts) do
    if ttl_ms then
      call('SET', base .. 'r:' .. id, body(), 'PX', ttl_ms)
    else
      records[#records + 1] = base .. 'r:' .. id
      records[#records + 1] = body()
    end
    index(id)
    if part.owners[id] then own(part.owners[id], part.kind .. ':' .. id, ttl_ms) end
  end
  in_bulk('MSET', records)
  for id, deltas in pairs(part.adds) do
    for name, delta in pairs(deltas) do call('HINCRBY', base .. 'c:' .. id, name, delta) end
    if ttl_ms then call('PEXPIRE', base .. 'c:' .. id, ttl_ms) end
    index(id)
  end
  for _, append in ipairs(part.appends) do
    local list, entries = base .. 'l:' .. append[1], {}
    for n = 1, append[2] do entries[n] = body() end
    in_bulk('RPUSH', entries, list)
    if call('LLEN', list) > tonumber(plan.keep) then call('LTRIM', list, '-' .. plan.keep, -1) end
    if ttl_ms then call('PEXPIRE', list, ttl_ms) end
    index(append[1])
  end
  in_bulk('ZADD', indexed, ids)
  -- Leaves nothing behind but its name among the invalidations: so a watcher knows its own store's writes.
  call('SET', base .. 'w:' .. writer, '')
  call('DEL', base .. 'w:' .. writer)
end
for partition, move in pairs(plan.offsets) do call('HSET', prefix .. 'offsets', partition, move[2]) end
return { 'done' }
