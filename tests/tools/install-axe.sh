#!/usr/bin/env bash
# Installs axe-core, which finds what keeps people with disabilities from using a page, from npm. Needs npm. Does nothing when
# that version is there. The program `axe-core` prints the script, for a test to run in its page.
#
#   tests/tools/install-axe.sh [DEST]     DEST defaults to ${ORAMA_TOOLS:-$HOME/.cache/orama-tools}/axe-core
#
# The version and its hash are those in axe/package-lock.json next to this script.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dest=${1:-${ORAMA_TOOLS:-$HOME/.cache/orama-tools}/axe-core}
wanted=$here/axe/package-lock.json

say() { printf 'install-axe: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

if [ -x "$dest/bin/axe-core" ] && cmp -s "$wanted" "$dest/package-lock.json"; then
  say "axe-core is already in $dest"
  exit 0
fi
command -v npm >/dev/null || fail "npm is needed; install it first (apt-get install npm)"
rm -rf "$dest"
mkdir -p "$dest/bin"
cp "$here/axe/package.json" "$wanted" "$dest"
(cd "$dest" && npm ci --ignore-scripts --no-audit --no-fund --silent >&2)
cat >"$dest/bin/axe-core" <<'END'
#!/bin/sh
exec cat "$(dirname "$0")/../node_modules/axe-core/axe.min.js"
END
chmod +x "$dest/bin/axe-core"
say "installed axe-core in $dest"
