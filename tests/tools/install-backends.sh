#!/usr/bin/env bash
# Builds the servers that the tests run against: rqlite, Olric, kubo and Caddy, from the Go module proxy alone. Needs Go and a C
# compiler; about 500 s of CPU the first time. Does nothing for a server that is there in the right version.
#
#   tests/tools/install-backends.sh [DEST]     DEST defaults to ${ORAMA_TOOLS:-$HOME/.cache/orama-tools}
#
# The versions are those in backends/*/go.mod next to this script, checked against their go.sum.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dest=${1:-${ORAMA_TOOLS:-$HOME/.cache/orama-tools}}

say() { printf 'install-backends: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

command -v go >/dev/null || fail "Go is needed to build the servers; install it first (https://go.dev/dl)"

install() { # install FOLDER PROGRAM PACKAGE CGO [GOTOOLCHAIN]: a stamp says what was built
  local folder=$here/backends/$1 program=$2 package=$3 cgo=$4 toolchain=${5:-auto} version
  version=$(sed -n "s#^require ${package%%/cmd/*} ##p" "$folder/go.mod")
  [ -n "$version" ] || fail "no version of $package in $folder/go.mod"
  local into=$dest/$program/bin
  if [ -x "$into/$program" ] && [ "$(cat "$dest/$program/version" 2>/dev/null || true)" = "$version" ]; then
    say "$program $version is already in $into"
    return
  fi
  say "building $program $version"
  mkdir -p "$into"
  (cd "$folder" && CGO_ENABLED=$cgo GOTOOLCHAIN=$toolchain GOFLAGS=-mod=readonly \
    go build -trimpath -ldflags="-s -w" -o "$into/$program" "$package")
  printf '%s\n' "$version" >"$dest/$program/version"
}

install rqlite rqlited github.com/rqlite/rqlite/v8/cmd/rqlited 1
install olric olric-server github.com/olric-data/olric/cmd/olric-server 0
install caddy caddy github.com/caddyserver/caddy/v2/cmd/caddy 0
# kubo refuses to be built by a Go that it does not know.
install kubo ipfs github.com/ipfs/kubo/cmd/ipfs 0 go1.25.5
