#!/usr/bin/env bash
# A real Redis on this machine: loopback only, in the foreground, every write on the disk before it is answered.
#
#   scripts/redis.sh [--port N] [--data DIR]     run until SIGTERM or Ctrl-C; prints "ready HOST:PORT" once it answers
#   scripts/redis.sh --install                   fetch what it needs, and stop there
#
# Without --port a free one is taken. DIR (default: below the cache, ${UPWELL_CACHE:-~/.cache/upwell}) keeps the data and the
# log; started again on the same DIR, also after kill -9, the server goes on where it was. The process that was started
# IS the server: its id takes the signals. On Debian, as root, redis-server is installed when it is missing.
# UPWELL_REDIS_PASSWORD asks for that password.
set -euo pipefail

. "$(dirname "$0")/common.sh"
options "$@"

install() { # the package would start a server of its own on port 6379: policy-rc.d keeps it from that
  command -v redis-server >/dev/null && return
  may_install redis-server redis-server
  local policy=/usr/sbin/policy-rc.d
  if [ -e "$policy" ]; then policy=; else printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; fi
  apt_install redis-server || { rm -f $policy; fail "apt-get could not install redis-server"; }
  rm -f $policy
}

mkdir -p "$cache"
(flock 9; install) 9>"$cache/redis.lock"
[ -z "$only_install" ] || { redis-server --version; exit 0; }

mkdir -p "$data"
data=$(cd "$data" && pwd)
exec 8>"$data/redis.lock" # inherited by the server: held as long as it lives
flock -n 8 || fail "a server already runs on $data"
port=${port:-$(free_port)}
closed "$port" || fail "port $port is taken"
export REDISCLI_AUTH=${UPWELL_REDIS_PASSWORD:-}

# Tells when the server answers: LOADING is no answer yet, and on a port that another took, our process is gone. Started
# twice removed from here, so that the server is not left with a child to reap.
( (
  while kill -0 $$ 2>/dev/null; do
    [ "$(redis-cli -p "$port" ping 2>/dev/null)" = PONG ] && kill -0 $$ && { echo "ready 127.0.0.1:$port"; exit; }
    sleep 0.05
  done
  tail -n 3 "$data/redis.log" >&2
) 8>&- & )

# The settings go in on standard input: no process list shows the password.
exec redis-server - >"$data/redis.log" 2>&1 <<CONFIG
bind 127.0.0.1
port $port
dir "$data"
appendonly yes
appendfsync always
save ""
maxmemory-policy noeviction
requirepass "${UPWELL_REDIS_PASSWORD:-}"
CONFIG
