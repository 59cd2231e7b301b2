#!/bin/sh
# Makes the archive of a bare Debian root, as a machine has it that was just rented: no Node, no npm, no init. Prints its
# path. Needs root and debootstrap; an archive that is there already is used again.
set -eu
archive=${XDG_CACHE_HOME:-$HOME/.cache}/gpu-agent/bare-root.tar
if [ ! -s "$archive" ]; then
  mkdir -p "$(dirname "$archive")"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  # From where this machine has its own packages.
  mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n 1)
  # shellcheck source=/dev/null
  suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
  debootstrap --variant=minbase --include=python3-venv "$suite" "$work/root" ${mirror:+"$mirror"} >"$work/log" 2>&1 ||
    { tail -n 20 "$work/log" >&2; exit 1; }
  rm -rf "$work/root/var/cache/apt" "$work/root/var/lib/apt/lists" "$work/root/usr/share/doc"
  tar -C "$work/root" -cf "$archive.new" .
  mv "$archive.new" "$archive"
fi
echo "$archive"
