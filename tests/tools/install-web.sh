#!/usr/bin/env bash
# Installs what tests put before a node and have visit it, from Debian's packages: nginx and Chromium's headless shell. Needs root
# where one is missing. Does nothing for what is there.
#
#   tests/tools/install-web.sh
set -euo pipefail

say() { printf 'install-web: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

export PATH=$PATH:/usr/sbin
packages=()
for program in nginx:nginx-light chromium-headless-shell:chromium-headless-shell; do
  if command -v "${program%%:*}" >/dev/null; then
    say "${program%%:*} is already there"
  else
    packages+=("${program##*:}")
  fi
done
[ ${#packages[@]} -gt 0 ] || exit 0

command -v apt-get >/dev/null || fail "this script knows Debian's packages only; install ${packages[*]} by hand and put them on PATH"
[ "$(id -u)" = 0 ] || fail "these packages are missing, install them as root: apt-get install ${packages[*]}"
# A package would start a server of its own, which nobody asked for.
refuse=/usr/sbin/policy-rc.d
if [ ! -e $refuse ]; then
  printf '#!/bin/sh\nexit 101\n' >$refuse
  chmod +x $refuse
  trap 'rm -f $refuse' EXIT
fi
say "installing ${packages[*]}"
export DEBIAN_FRONTEND=noninteractive
if ! apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2; then
  apt-get update -qq >&2 # the package lists were missing or old
  apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2
fi
