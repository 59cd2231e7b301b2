#!/bin/sh
# Makes this release, which lies beside the one in use, the one in use: moves the link `current`, starts the new agent at
# boot and now, and waits until it answers. If it does not, everything goes back to the release before, its state
# included. Processes go on under their shims all the time.
#
#   PREFIX/RELEASE/systemd/switch.sh [--how systemd|supervisord|onstart] [--no-service]
set -eu

new=$(dirname "$(dirname "$(readlink -f "$0")")")
prefix=$(dirname "$new")
current=$prefix/current
how='' service=yes
# A new agent first brings its state to its own form; the box may be busy with its own boot.
patience=${AGENT_SWITCH_SECONDS:-30}

say() { echo "switch: $*"; }
fail() { echo "error: $1" >&2; echo "try: $2" >&2; exit "${3:-1}"; }

while [ $# -gt 0 ]; do
  case $1 in
    --how) how=${2:-}; shift 2 || fail '--how needs a value' 'Write --how systemd, supervisord or onstart.' 2 ;;
    --no-service) service=''; shift ;;
    *) fail "$1 is not known" 'switch.sh [--how systemd|supervisord|onstart] [--no-service]' 2 ;;
  esac
done

# Moves the link in one step: there is no moment without a release.
point_to() {
  ln -sfn "$1" "$prefix/.$2.new"
  mv -fT "$prefix/.$2.new" "$prefix/$2"
}

start_current() {
  if [ -n "$how" ]; then "$current/systemd/install.sh" --how "$how"; else "$current/systemd/install.sh"; fi
}

stop_current() {
  if [ -n "$how" ]; then "$current/systemd/install.sh" --stop --how "$how"; else "$current/systemd/install.sh" --stop; fi
}

# The pid of an agent that answers and runs with the Node of this release: the old one that would not end does not count.
answering() {
  pid=$("$1/bin/agentctl" --timeout 5s status --json 2>/dev/null | sed -n 's/.*"pid":\([0-9]*\),"startedAt".*/\1/p') || true
  if [ -n "$pid" ] && [ "$(readlink "/proc/$pid/exe" 2>/dev/null)" = "$(readlink -f "$1/node/bin/node")" ]; then echo "$pid"; fi
}

# Twice the same one, for an agent that crashes again and again also answers now and then.
wait_until_healthy() {
  until_then=$(($(date +%s) + patience))
  while [ "$(date +%s)" -le "$until_then" ]; do
    first=$(answering "$1")
    sleep 1
    if [ -n "$first" ] && [ "$(answering "$1")" = "$first" ]; then return 0; fi
  done
  return 1
}

state_folder() { if [ -n "${AGENT_HOME:-}" ]; then echo "$AGENT_HOME/state"; else echo /var/lib/gpu-agent; fi; }

# An agent keeps a copy of its state before it gives it a newer form, and an older agent refuses that form.
restore_state() {
  state=$(state_folder)
  kept=$(find "$state" -maxdepth 1 -name 'state.db.before-*' -newer "$began" 2>/dev/null | head -n 1)
  if [ -z "$kept" ]; then return 0; fi
  rm -f "$state/state.db-wal" "$state/state.db-shm"
  mv -f "$state/state.db" "$state/state.db.of-$(basename "$new")"
  cp -p "$kept" "$state/state.db"
  say "its state is what it was before; the newer one is kept as $state/state.db.of-$(basename "$new")"
}

# This release and the one before it stay; shims of older ones have all that they need in memory.
remove_older() {
  for folder in "$prefix"/*/; do
    folder=${folder%/}
    name=$(basename "$folder")
    if [ -L "$folder" ] || [ ! -f "$folder/.sha256" ] || [ ! -f "$folder/VERSION" ]; then continue; fi
    if [ "$folder" = "$new" ] || [ "$name" = "$old" ]; then continue; fi
    rm -rf "$folder"
    say "removed $name"
  done
}

old=$(readlink "$current" 2>/dev/null || true)
name=$(basename "$new")
began=$prefix/.switching
: >"$began"
trap 'rm -f "$began"' EXIT

point_to "$name" current
if [ -z "$service" ]; then
  if [ -n "$old" ] && [ "$old" != "$name" ]; then point_to "$old" previous; fi
  exit 0
fi

started=yes
start_current || started=''
if [ -n "$started" ] && wait_until_healthy "$new"; then
  say "$name answers"
  if [ -n "$old" ] && [ "$old" != "$name" ]; then point_to "$old" previous; fi
  remove_older
  exit 0
fi

if [ -z "$old" ] || [ "$old" = "$name" ] || [ ! -d "$prefix/$old" ]; then
  fail "the agent of $name does not answer after $patience s" "Read its log: /var/log/agentd.log, or journalctl -u agentd."
fi
say "$name does not answer after $patience s; going back to $old"
stop_current || true
restore_state
point_to "$old" current
start_current
if wait_until_healthy "$prefix/$old"; then
  fail "the agent of $name does not answer after $patience s; $old runs again" \
    "Read why in /var/log/agentd.log or journalctl -u agentd; the release is kept in $new."
fi
fail "neither the agent of $name nor that of $old answers" "Read /var/log/agentd.log, or journalctl -u agentd."
