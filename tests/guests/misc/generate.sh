#!/bin/sh
# Makes host_host.go and host_orama.go from host_env.go: //go:wasmimport wants a literal module name.
set -eu
cd "$(dirname "$0")"
for module in host orama; do
  sed -e "1s/.*/\/\/go:build host_$module/" \
    -e "s/^\/\/go:wasmimport env /\/\/go:wasmimport $module /" host_env.go > "host_$module.go"
done
