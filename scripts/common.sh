# What the scripts that start servers share. Sourced: $0 is theirs.
cache=${UPWELL_CACHE:-$HOME/.cache/upwell}
me=$(basename "$0")
port= data=$cache/${me%.sh}-data only_install=

fail() { echo "$me: $*" >&2; exit 1; }

options() { # sets port, data and only_install
  while [ $# -gt 0 ]; do
    case $1 in
      --port) port=${2:?--port needs a number}; shift 2 ;;
      --data) data=${2:?--data needs a folder}; shift 2 ;;
      --install) only_install=yes; shift ;;
      -h|--help) sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit 0 ;;
      *) echo "$me: unknown option $1: see --help" >&2; exit 2 ;;
    esac
  done
}

may_install() { # may_install PROGRAM DEBIAN-PACKAGE
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || fail "$1 is missing: apt-get install $2"
}

apt_install() { # apt_install DEBIAN-PACKAGE
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1"; } >&2
}

need() { # need PROGRAM DEBIAN-PACKAGE
  command -v "$1" >/dev/null && return
  may_install "$1" "$2"
  apt_install "$2"
}

closed() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

free_port() {
  local try
  while :; do
    try=$((20000 + RANDOM % 10000))
    closed "$try" && { echo "$try"; return; }
  done
}
