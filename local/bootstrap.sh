#!/usr/bin/env bash
# From a bare checkout to .venv with every dependency and the C kernels: the part that must run before any Python of ours.
# Says what it does and how long that took last time; a lack is one line before anything starts.
set -euo pipefail
cd "$(dirname "$0")/.."

home=${BRIXFLOW_HOME:-$PWD/.brixflow}
python=${PYTHON:-python3}
durations=$home/bootstrap-durations

die() { echo "brixflow: $*" >&2; exit 1; }

step() { # step NAME COMMAND...: runs a command with its output in a log, shows the time it took last time
  local name=$1 last began log
  shift
  last=$(sed -n "s/^$name=//p" "$durations" | tail -n 1)
  printf '  %-44s %s' "$name" "${last:+(last time $last s) }"
  began=$SECONDS log=$home/bootstrap.log
  if ! "$@" >"$log" 2>&1; then
    echo "failed"
    tail -n 20 "$log" >&2
    die "$name failed; the whole output is in $log"
  fi
  echo "$((SECONDS - began)) s"
  { grep -v "^$name=" "$durations" || true; echo "$name=$((SECONDS - began))"; } >"$durations.new"
  mv "$durations.new" "$durations"
}

[ "$(id -u)" = 0 ] || die "needs root: the node agent makes network namespaces and mounts, as every kubelet does (run with sudo)"
command -v "$python" >/dev/null || die "needs Python 3.11 or later (set PYTHON to its path)"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "needs Python 3.11 or later, $python is $($python -V 2>&1)"
command -v gcc >/dev/null || die "needs gcc for the C kernels (apt-get install gcc libc6-dev)"
free_kib=$(awk '/^MemAvailable/ {print $2}' /proc/meminfo)
[ "$free_kib" -ge 3000000 ] || die "needs 3 GB of free memory, there are $((free_kib / 1024)) MB"

mkdir -p "$home"
touch "$durations"
missing=()
"$python" -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
"$python" -c 'import os, sysconfig; raise SystemExit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
  missing+=(python3-dev)
echo '#include <stdlib.h>' | gcc -E - >/dev/null 2>&1 || missing+=(libc6-dev)
if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || die "needs ${missing[*]}: install them with the system's package manager"
  export DEBIAN_FRONTEND=noninteractive
  step "package lists" apt-get update -q
  step "packages ${missing[*]}" apt-get install -q -y --no-install-recommends "${missing[@]}"
fi

echo "environment .venv"
[ -x .venv/bin/python ] || step "virtual environment" "$python" -m venv .venv
step "dependencies" .venv/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
step "C kernels and commands" .venv/bin/pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e .
touch .venv/.installed
