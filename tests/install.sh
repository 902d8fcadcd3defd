#!/bin/bash
# Puts on a bare Debian machine what the tests with real parts need. Run as root; does nothing when all is there.
# Built programs go to .cache/ of the project, or to MJL_CACHE.
set -euo pipefail
project=$(cd "$(dirname "$0")/.." && pwd)
cache=${MJL_CACHE:-$project/.cache}
deno_version=2.9.6
# tests/harness/cache.ts has the same versions.
versitygw_version=v1.8.0
kwok_version=v0.8.0
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

say() { echo "install: $*" >&2; }
die() { say "$*"; exit 1; }

# Asked by command, not by package: a machine may have a tool from elsewhere, and Debian's package of it may then
# conflict.
apt_packages=()
want() { # COMMAND-OR-FILE PACKAGE
  if [[ $1 == /* ]]; then [[ -e $1 ]] || apt_packages+=("$2"); else command -v "$1" >/dev/null || apt_packages+=("$2"); fi
}
want mosquitto mosquitto
want mosquitto_passwd mosquitto
want mosquitto_sub mosquitto-clients
want chromium chromium
want containerd containerd
want ctr containerd
want runc runc
want /usr/lib/cni/ptp containernetworking-plugins
want busybox busybox-static
want openssl openssl
want zsh zsh
want fish fish
want ip iproute2
want ps procps
want umount mount
# For the peer that the bench measures; its packages come when it is first started.
want python3 python3
python3 -c 'import ensurepip' 2>/dev/null || apt_packages+=(python3-venv)
command -v deno >/dev/null || want npm npm
if ((${#apt_packages[@]} > 0)); then
  mapfile -t apt_packages < <(printf '%s\n' "${apt_packages[@]}" | sort -u)
  say "installing ${apt_packages[*]}"
  # Nothing is to start by itself: each test starts its own broker.
  policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${apt_packages[@]}" >/dev/null
fi

if ! command -v deno >/dev/null; then
  say "installing Deno $deno_version"
  npm install --global --silent "deno@$deno_version"
fi

need_go() {
  command -v go >/dev/null || die "Go is missing; the version that tests/cluster/go.mod names is at https://go.dev/dl"
}

go_tool() { # NAME VERSION PACKAGE
  local folder=$cache/$1-$2
  [[ -x $folder/$1 ]] && return
  need_go
  say "building $1 $2"
  mkdir -p "$folder"
  GOBIN=$folder nice go install "$3@$2"
}
go_tool versitygw "$versitygw_version" github.com/versity/versitygw/cmd/versitygw
go_tool kwok "$kwok_version" sigs.k8s.io/kwok/cmd/kwok

key=$(cat "$project/tests/cluster/go.mod" "$project/tests/cluster/main.go" | sha256sum | cut -c1-16)
program=$cache/cluster-$key/cluster
if [[ ! -x $program ]]; then
  need_go
  say "building the test cluster (some minutes the first time)"
  mkdir -p "${program%/*}"
  # Under another name until it is whole: a build may be broken off.
  (cd "$project/tests/cluster" && nice go build -ldflags '-s -w' -o "$program.part" .)
  mv "$program.part" "$program"
fi
