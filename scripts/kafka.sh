#!/usr/bin/env bash
# A real Kafka broker on this machine: one KRaft node, loopback only, in the foreground.
#
#   scripts/kafka.sh [--port N] [--data DIR]     run until SIGTERM or Ctrl-C; prints "ready HOST:PORT" once it answers
#   scripts/kafka.sh --install                   fetch what it needs, and stop there
#
# Without --port a free one is taken. DIR (default: below the cache) keeps topics, ports and the log; started again on the
# same DIR, also after kill -9, the broker goes on where it was. The process that was started IS the broker: its id takes
# the signals. Jars are kept in ${UPWELL_CACHE:-~/.cache/upwell}/kafka-VERSION. Needs Java 17 or later, and Maven once; on
# Debian, as root, both are installed when missing.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/common.sh"
options "$@"
version=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$here/kafka/pom.xml")
jars=$cache/kafka-$version
heap=${UPWELL_KAFKA_HEAP:-512m}

fetch_jars() { # whole or not at all: they appear by one rename
  [ -d "$jars" ] && return
  need mvn maven
  local fresh
  fresh=$(mktemp -d "$cache/fetching.XXXXXX")
  mvn -q -B -f "$here/kafka/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$fresh" >&2 ||
    { rm -rf "$fresh"; fail "Maven could not fetch Kafka $version"; }
  mv "$fresh" "$jars"
}

answers() { # an ApiVersions request gets an answer
  (
    exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
    printf '\0\0\0\020\0\022\0\0\0\0\0\1\0\6upwell' >&3
    [ "$(timeout 5 head -c 4 <&3 | wc -c)" = 4 ]
  ) 2>/dev/null
}

tool() { java -Xmx256m -XX:TieredStopAtLevel=1 -cp "$jars/*" "$@"; }

mkdir -p "$cache"
need java default-jre-headless
(flock 9; fetch_jars) 9>"$cache/kafka.lock"
[ -z "$only_install" ] || { echo "kafka.sh: Kafka $version is in $jars"; exit 0; }

mkdir -p "$data"
data=$(cd "$data" && pwd)
exec 8>"$data/kafka.lock" # inherited by the broker: held as long as it lives
flock -n 8 || fail "a broker already runs on $data"
if [ -f "$data/ports" ]; then
  read -r kept controller <"$data/ports"
  port=${port:-$kept}
fi
port=${port:-$(free_port)}
controller=${controller:-$(free_port)}
closed "$port" || fail "port $port is taken"
closed "$controller" || controller=$(free_port)
echo "$port $controller" >"$data/ports"

cat >"$data/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=$data/log
num.partitions=8
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
log.retention.check.interval.ms=60000
PROPERTIES

if [ ! -f "$data/log/meta.properties" ]; then
  tool kafka.tools.StorageTool format --ignore-formatted -t "$(tool kafka.tools.StorageTool random-uuid)" \
    -c "$data/server.properties" >"$data/format.txt" 2>&1 || { cat "$data/format.txt" >&2; fail "cannot format $data/log"; }
fi

# Tells when the broker answers. Started twice removed from here, so that the broker is not left with a child to reap.
( (
  for _ in $(seq 1200); do
    kill -0 $$ 2>/dev/null || exit
    answers "$port" && { echo "ready 127.0.0.1:$port"; exit; }
    sleep 0.1
  done
) 8>&- & )

exec java "-Xmx$heap" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -cp "$jars/*" kafka.Kafka "$data/server.properties" >&2
