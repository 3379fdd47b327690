#!/usr/bin/env bash
# Installs what checks a description in OpenAPI and makes a TypeScript client of it, from npm: openapi-typescript, openapi-fetch,
# Redocly's checker and tsc. Needs Node.js 20 and npm. Does nothing when those versions are there.
#
#   tests/tools/install-openapi.sh [DEST]     DEST defaults to ${ORAMA_TOOLS:-$HOME/.cache/orama-tools}/openapi-client
#
# The versions and their hashes are those in openapi/package-lock.json next to this script. The program that it leaves,
#
#   openapi-client DIR
#
# checks DIR/openapi.json with DIR/lint.mjs, makes the types DIR/api.d.ts of it, compiles DIR/client.ts with them, and runs that.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dest=${1:-${ORAMA_TOOLS:-$HOME/.cache/orama-tools}/openapi-client}
wanted=$here/openapi/package-lock.json

say() { printf 'install-openapi: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

command -v node >/dev/null || fail "Node.js is needed; install it first (apt-get install nodejs)"
if [ -x "$dest/bin/openapi-client" ] && cmp -s "$wanted" "$dest/package-lock.json"; then
  say "openapi-typescript is already in $dest"
  exit 0
fi
command -v npm >/dev/null || fail "npm is needed; install it first (apt-get install npm)"
rm -rf "$dest"
mkdir -p "$dest/bin"
cp "$here/openapi/package.json" "$dest"
cp "$wanted" "$dest/package-lock.json"
(cd "$dest" && npm ci --ignore-scripts --no-audit --no-fund --silent >&2)
cat >"$dest/bin/openapi-client" <<'END'
#!/bin/sh
set -eu
tools=$(cd "$(dirname "$0")/.." && pwd)
cd "$1"
ln -sfn "$tools/node_modules" node_modules
node lint.mjs openapi.json
node node_modules/openapi-typescript/bin/cli.js openapi.json --output api.d.ts
node node_modules/typescript/bin/tsc --project tsconfig.json
exec node client.js
END
chmod +x "$dest/bin/openapi-client"
say "installed openapi-typescript in $dest"
