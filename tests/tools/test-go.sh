#!/usr/bin/env bash
# Vets and tests the Go code of this repository: tests/tools/test-go.sh
#
#   sdk/go                    the SDK, its fakes, and the database of the fakes
#   tests/guests/conformance  the fakes answer as testdata/answers.json says, and so does a node (tests/node/sdk_conformance.rs)
#   cli/templates, examples   what `orama function init` makes passes its own tests; so do the examples that have some
#
# Needs Go, and Go's module proxy the first time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD
export GOWORK=off GOFLAGS=
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

check() { # check FOLDER: vets and tests its module
  echo "$1"
  (cd "$1" && go vet ./... && go test ./...)
}

check sdk/go
check sdk/go/oramatest/sqlite
check tests/guests/conformance
for test in examples/*/function_test.go; do check "$(dirname "$test")"; done

for template in cli/templates/*/function_test.go; do
  made=$scratch/$(basename "$(dirname "$template")")
  mkdir "$made"
  cp "$(dirname "$template")"/*.go "$made"
  sed "s/{name}/made/; s#=> ./orama#=> $root/sdk/go#" cli/templates/go.mod.txt >"$made/go.mod"
  # One without a database needs nothing that has to be fetched.
  if grep -q 'orama/oramatest/sqlite' "$template"; then (cd "$made" && go mod tidy); fi
  check "$made"
done
