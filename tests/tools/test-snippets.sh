#!/usr/bin/env bash
# Compiles the code in the pages of this repository as it stands: tests/tools/test-snippets.sh
#
#   go    a block is a whole file: a function, which is built for WebAssembly. One that imports testing is the test of the block
#         before it, and must pass
#   sh    a block is what bash can read
#
# Needs Go, and Go's module proxy the first time. The blocks of function.yaml are read by a test of the command line.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD
export GOWORK=off GOFLAGS=
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# extract KIND PAGE FOLDER: writes each block of a kind to FOLDER, named by its line
extract() {
  mkdir -p "$3"
  awk -v kind="$1" -v to="$3" '
    /^[ ]*```/ { if (inside) { inside = 0; if (file) close(file); next }
                 inside = 1; word = $1; sub(/^```/, "", word); file = word == kind ? sprintf("%s/%06d", to, NR) : ""; next }
    inside && file { print > file }' "$2"
}

failed=0
wrong() {
  echo "$1: $2"
  failed=$((failed + 1))
}

# go_module FOLDER: makes a module of a folder with a function and perhaps its test
go_module() {
  sed "s/{name}/snippet/; s#=> ./orama#=> $root/sdk/go#" cli/templates/go.mod.txt >"$1/go.mod"
  if grep -q 'orama/oramatest/sqlite' "$1"/*.go; then (cd "$1" && go mod tidy); fi
}

check_go() { # check_go PAGE
  local block at folder="" count=0
  extract go "$1" "$scratch/go"
  for block in "$scratch"/go/0*; do
    [ -e "$block" ] || continue
    at=$1:$((10#$(basename "$block")))
    count=$((count + 1))
    if ! grep -qE '^\s*(import )?"testing"$' "$block"; then
      folder=$scratch/module/$(basename "$block")
      mkdir -p "$folder"
      cp "$block" "$folder/function.go"
      go_module "$folder" && (cd "$folder" && GOOS=wasip1 GOARCH=wasm go build -o function.wasm .) || wrong "$at" "does not build"
    elif [ -z "$folder" ]; then
      wrong "$at" "is a test without a function before it"
    else
      cp "$block" "$folder/function_test.go"
      go_module "$folder" && (cd "$folder" && go vet . && go test .) || wrong "$at" "does not pass"
    fi
    if [ -n "$(gofmt -l "$block")" ]; then wrong "$at" "is not as gofmt has it"; fi
  done
  rm -rf "$scratch/go" "$scratch/module"
  blocks=$((blocks + count))
}

check_sh() { # check_sh PAGE
  local block
  extract sh "$1" "$scratch/sh"
  for block in "$scratch"/sh/0*; do
    [ -e "$block" ] || continue
    bash -n "$block" || wrong "$1:$((10#$(basename "$block")))" "bash cannot read it"
    blocks=$((blocks + 1))
  done
  rm -rf "$scratch/sh"
}

blocks=0
# Not by git: an archive of the sources has no history.
mapfile -t pages < <(find . -mindepth 1 \( -name '.*' -o -name target -o -name node_modules \) -prune -o -name '*.md' -printf '%P\n' | sort)
for page in "${pages[@]}"; do
  check_go "$page"
  check_sh "$page"
done
if [ "$blocks" = 0 ]; then wrong "${#pages[@]} pages" "no block was found"; fi
[ "$failed" = 0 ] || exit 1
echo "$blocks blocks of code in ${#pages[@]} pages compile"
