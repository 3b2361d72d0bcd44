-- A page of a kind that has an index. ARGV: prefix, kind, facet ('r' or 'c'), after, limit.
-- Answers {after or '', {id, value, …}}; forgets ids of which nothing is left, which is how expired ones leave the index.
local base, ids = ARGV[1] .. ARGV[2] .. ':', ARGV[1] .. 'ids:' .. ARGV[2]
local facet, after, limit = ARGV[3], ARGV[4], tonumber(ARGV[5])
local from = after == '' and '-' or '(' .. after
local names, found = redis.call('ZRANGEBYLEX', ids, from, '+', 'LIMIT', 0, limit), {}

for _, id in ipairs(names) do
  local key, value = base .. facet .. ':' .. id, nil
  if facet == 'r' then value = redis.call('GET', key) else value = redis.call('HGETALL', key) end
  if value and #value > 0 then
    found[#found + 1] = id
    found[#found + 1] = value
  elseif redis.call('EXISTS', base .. 'r:' .. id, base .. 'c:' .. id, base .. 'l:' .. id) == 0 then
    redis.call('ZREM', ids, id)
  end
end
return { #names == limit and names[#names] or '', found }
