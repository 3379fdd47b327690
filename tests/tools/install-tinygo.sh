#!/usr/bin/env bash
# Installs the TinyGo that the tests use. It is built from package registries alone: the Go module proxy, and Debian's
# LLVM 19 and wasi-libc. Needs Go and, when a Debian package is missing, root. Takes about 40 s of CPU the first time;
# does nothing when that version is there.
#
#   tests/tools/install-tinygo.sh [DEST]     DEST defaults to ${ORAMA_TOOLS:-$HOME/.cache/orama-tools}/tinygo
#
# The version is the one in tinygo/go.mod next to this script, checked against its go.sum.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dest=${1:-${ORAMA_TOOLS:-$HOME/.cache/orama-tools}/tinygo}
version=$(sed -n 's#^require github.com/tinygo-org/tinygo v##p' "$here/tinygo/go.mod")

say() { printf 'install-tinygo: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

[ -n "$version" ] || fail "no TinyGo version in $here/tinygo/go.mod"
if [ -x "$dest/bin/tinygo" ] && "$dest/bin/tinygo" version 2>/dev/null | grep -qF "tinygo version $version "; then
  say "TinyGo $version is already in $dest"
  exit 0
fi

command -v go >/dev/null || fail "Go is needed to build TinyGo; install it first (https://go.dev/dl)"
command -v dpkg-query >/dev/null || fail "this script knows Debian's packages only; install TinyGo $version by hand (https://tinygo.org) and put it on PATH"

packages=(llvm-19-dev libclang-19-dev clang-19 lld-19 zlib1g-dev wasi-libc libclang-rt-19-dev-wasm32 binaryen)
missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  [ "$(id -u)" = 0 ] || fail "these packages are missing, install them as root: apt-get install ${missing[*]}"
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  if ! apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2; then
    apt-get update -qq >&2 # the package lists were missing or old
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
  fi
fi

say "building TinyGo $version into $dest"
mkdir -p "$dest/bin"
dest=$(cd "$dest" && pwd)
rm -f "$dest/bin/tinygo" # written last, so that an interrupted run is done again
cd "$here/tinygo"
CGO_ENABLED=1 go build -mod=readonly -tags "llvm19 osusergo" -o "$dest/bin/tinygo.real" github.com/tinygo-org/tinygo
module=$(go list -mod=readonly -m -f '{{.Dir}}' github.com/tinygo-org/tinygo)
[ -d "$module" ] || fail "the Go module cache has no sources of TinyGo"

rm -rf "$dest/root"
mkdir "$dest/root"
cp -r "$module/src" "$module/targets" "$module/lib" "$dest/root/"
chmod -R u+w "$dest/root"
# TinyGo's own net package is a git submodule, which the module zip lacks: an empty folder means Go's.
mkdir -p "$dest/root/src/net/http"

# The wasip1 target, with Debian's wasi-libc and compiler-rt instead of the ones that a TinyGo release bundles.
libc=/usr/lib/wasm32-wasi/libc.a
builtins=/usr/lib/llvm-19/lib/clang/19/lib/wasi/libclang_rt.builtins-wasm32.a
for file in "$libc" "$builtins"; do [ -f "$file" ] || fail "$file is missing"; done
cat > "$dest/root/targets/wasip1.json" <<JSON
{
	"llvm-target": "wasm32-unknown-wasi",
	"cpu": "generic",
	"features": "+bulk-memory,+mutable-globals,+nontrapping-fptoint,+sign-ext,-multivalue,-reference-types",
	"build-tags": ["tinygo.wasm"],
	"goos": "wasip1",
	"goarch": "wasm",
	"linker": "wasm-ld",
	"gc": "precise",
	"scheduler": "asyncify",
	"default-stack-size": 65536,
	"cflags": ["-mbulk-memory", "-mnontrapping-fptoint", "-mno-multivalue", "-mno-reference-types", "-msign-ext", "--sysroot=/usr", "-isystem", "/usr/include/wasm32-wasi"],
	"ldflags": ["--stack-first", "--no-demangle", "$libc", "$builtins"],
	"extra-files": ["src/runtime/asm_tinygowasm.S"]
}
JSON

launcher=$(mktemp "$dest/bin/.tinygo.XXXXXX")
cat > "$launcher" <<SH
#!/bin/sh
TINYGOROOT='$dest/root' exec '$dest/bin/tinygo.real' "\$@"
SH
chmod 755 "$launcher"
"$launcher" version >&2
mv "$launcher" "$dest/bin/tinygo"
