#!/bin/sh
# The on-start script for a stock image: fetches a release, checks it, and starts its agent, at each start of the
# container. Paste it where the provider asks for an on-start script, and give these two among the instance's variables:
#   AGENT_RELEASE_URL     where gpu-agent-VERSION-linux-x64.tar.gz lies
#   AGENT_RELEASE_SHA256  what its .sha256 says; nothing else is ever unpacked
# Secrets, AGENT_MANIFEST and AGENT_TOKEN_HASH go the same way. It says what it did in /var/log/agentd.log.
set -eu
log=${AGENT_LOG:-/var/log/agentd.log}
prefix=${AGENT_PREFIX:-/opt/gpu-agent}
exec >>"$log" 2>&1

fail() { echo "from-url: error: $1"; exit 1; }

# Vast.ai gives its variables to the container's first process alone.
for name in AGENT_RELEASE_URL AGENT_RELEASE_SHA256; do
  eval "value=\${$name:-}"
  if [ -z "$value" ]; then
    value=$(tr '\0' '\n' </proc/1/environ | sed -n "s/^$name=//p")
    [ -n "$value" ] || fail "$name is not set"
    export "$name=$value"
  fi
done
sha=$AGENT_RELEASE_SHA256
case $sha in *[!0-9a-f]*) fail "AGENT_RELEASE_SHA256 is not a sha256: $sha" ;; esac
[ ${#sha} -eq 64 ] || fail "AGENT_RELEASE_SHA256 is not a sha256: $sha"

fetch() {
  if command -v curl >/dev/null; then curl -fsSL --retry 3 -o "$2" -- "$1"
  elif command -v wget >/dev/null; then wget -q -O "$2" -- "$1"
  elif command -v python3 >/dev/null; then
    python3 -c 'import sys, urllib.request as u; u.urlretrieve(sys.argv[1], sys.argv[2])' "$1" "$2"
  else fail "neither curl, wget nor python3 is here"; fi
}

if [ "$(cat "$prefix/current/.sha256" 2>/dev/null)" != "$sha" ]; then
  mkdir -p "$prefix"
  work=$(mktemp -d "$prefix/.incoming.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  pause=1
  until fetch "$AGENT_RELEASE_URL" "$work/release.tar.gz"; do
    # The network of a box that has just started may need a moment; a wrong address is told at each try.
    echo "from-url: the release cannot be fetched from ${AGENT_RELEASE_URL%%\?*}; trying again in $pause s"
    sleep "$pause"
    pause=$((pause * 2)); if [ "$pause" -gt 60 ]; then pause=60; fi
  done
  echo "$sha  $work/release.tar.gz" | sha256sum -c - >/dev/null || fail "the release is not the one of AGENT_RELEASE_SHA256"
  mkdir "$work/new"
  tar -xzf "$work/release.tar.gz" -C "$work/new" --strip-components=1 --no-same-owner
  echo "$sha" >"$work/new/.sha256"
  name=$("$work/new/bin/agentd" --version)-$(printf %.8s "$sha")
  rm -rf "${prefix:?}/$name"
  mv "$work/new" "$prefix/$name"
  "$prefix/$name/systemd/switch.sh" --no-service
fi
# The provider runs this script again at each start, so nothing else has to start the agent.
"$prefix/current/systemd/onstart.sh"
