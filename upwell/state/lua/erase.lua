-- All that is stored of a user. ARGV: prefix, writer, user, then the kinds keyed by a user's id.
-- Answers how many records, counters and lists were removed.
local prefix, writer, user = ARGV[1], ARGV[2], ARGV[3]
local call, removed, touched = redis.call, 0, {}

local function remove(kind, id)
  local base = prefix .. kind .. ':'
  removed = removed + call('DEL', base .. 'r:' .. id, base .. 'c:' .. id, base .. 'l:' .. id)
  call('ZREM', prefix .. 'ids:' .. kind, id)
  touched[kind] = true
end

for _, member in ipairs(call('ZRANGE', prefix .. 'owned:' .. user, 0, -1)) do
  local kind, id = string.match(member, '^(%l+):(.*)$')
  -- A record starts with its owner: one byte of length, then the name.
  local head = call('GETRANGE', prefix .. kind .. ':r:' .. id, 0, #user)
  if head == string.char(#user) .. user then remove(kind, id) end
end
call('DEL', prefix .. 'owned:' .. user)
for i = 4, #ARGV do remove(ARGV[i], user) end
for kind in pairs(touched) do
  call('SET', prefix .. kind .. ':w:' .. writer, '')
  call('DEL', prefix .. kind .. ':w:' .. writer)
end
return removed
