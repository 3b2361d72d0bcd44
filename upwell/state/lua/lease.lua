-- ARGV: prefix, name, then 'acquire', owner, ttl_ms | 'renew', token, ttl_ms | 'release', token.
-- Answers the token, or 0 where the lease is another's.
local lease, verb, who, ttl_ms = ARGV[1] .. 'lease:' .. ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local held = redis.call('GET', lease)
local token, owner = string.match(held or '', '^(%d+):(.*)$')

if verb == 'acquire' then
  if held and owner ~= who then return 0 end
  local next = redis.call('HINCRBY', ARGV[1] .. 'tokens', ARGV[2], 1) -- outlives the lease, so that tokens only rise
  redis.call('SET', lease, string.format('%.0f', next) .. ':' .. who, 'PX', ttl_ms)
  return next
end
if token ~= who then return 0 end
if verb == 'renew' then redis.call('PEXPIRE', lease, ttl_ms) else redis.call('DEL', lease) end
return tonumber(token)
