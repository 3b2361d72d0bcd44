-- Counters of several ids in one command. ARGV: the keys. Answers {name, value, …} for each.
local found = {}
for i, key in ipairs(ARGV) do found[i] = redis.call('HGETALL', key) end
return found
