#!/usr/bin/env bash
# Installs REDbot, which checks what a server answers against the RFCs of HTTP, from PyPI into an environment of its own. Needs
# Python 3.10 or newer with venv. Does nothing when that version is there.
#
#   tests/tools/install-redbot.sh [DEST]     DEST defaults to ${ORAMA_TOOLS:-$HOME/.cache/orama-tools}/redbot
#
# The versions are those in redbot/requirements.txt next to this script.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dest=${1:-${ORAMA_TOOLS:-$HOME/.cache/orama-tools}/redbot}
wanted=$here/redbot/requirements.txt

say() { printf 'install-redbot: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

if [ -x "$dest/bin/redbot" ] && cmp -s "$wanted" "$dest/installed.txt"; then
  say "$(grep '^redbot==' "$wanted") is already in $dest"
  exit 0
fi
command -v python3 >/dev/null || fail "Python 3 is needed; install it first (apt-get install python3-venv)"
rm -rf "$dest"
python3 -m venv "$dest" >&2 || fail "python3 has no venv; install it first (apt-get install python3-venv)"
"$dest/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$wanted" >&2
cp "$wanted" "$dest/installed.txt"
say "installed $(grep '^redbot==' "$wanted") in $dest"
