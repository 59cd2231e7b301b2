#!/bin/sh
# Makes the agent of this release start at boot, and starts it now. May be run again: it brings everything to the same
# state, and restarts the agent (its processes go on under their shims).
#
#   install.sh [--how systemd|supervisord|onstart] [--dry-run | --stop]
#
# Without --how it takes what this machine has: systemd, else supervisord, else a script that the container runs at each
# start. --stop only ends the agent that runs. With DESTDIR set the files go under that folder and nothing is started (for making an image).
set -eu

root=$(dirname "$(dirname "$(readlink -f "$0")")")
# Through the link that an upgrade moves, where there is one.
current="$(dirname "$root")/current"
if [ "$(readlink -f "$current" 2>/dev/null || true)" != "$root" ]; then current=$root; fi
dest=${DESTDIR:-}
how='' dry='' stop=''

say() { echo "install: $*"; }
fail() { echo "error: $1" >&2; echo "try: $2" >&2; exit "${3:-1}"; }

while [ $# -gt 0 ]; do
  case $1 in
    --how) how=${2:-}; shift 2 || fail '--how needs a value' 'Write --how systemd, supervisord or onstart.' 2 ;;
    --dry-run) dry=yes; shift ;;
    --stop) stop=yes; shift ;;
    *) fail "$1 is not known" 'install.sh [--how systemd|supervisord|onstart] [--dry-run | --stop]' 2 ;;
  esac
done

# Runs a command, or prints it.
run() {
  if [ -n "$dry" ]; then say "would run: $*"; else "$@"; fi
}

# Starts something; an image that is being made has nothing to start.
start() {
  if [ -z "$dest" ]; then run "$@"; fi
}

# Writes standard input to a file, when that is not what is there already.
put() {
  file="$dest$1"
  text=$(cat)
  if [ -f "$file" ] && [ "$(cat "$file")" = "$text" ]; then say "$file is right already"; return; fi
  if [ -n "$dry" ]; then say "would write: $file"; return; fi
  mkdir -p "$(dirname "$file")"
  printf '%s\n' "$text" >"$file.new"
  chmod "${2:-644}" "$file.new"
  mv -f "$file.new" "$file"
  say "wrote $file"
}

# A file of the release with the paths of this installation.
with_paths() { sed "s|/opt/gpu-agent/current|$current|g" "$root/systemd/$1"; }

link_programs() {
  for name in agentd agentctl; do
    link="$dest/usr/local/bin/$name"
    if [ -e "$link" ] && [ ! -L "$link" ]; then say "left $link alone: it is not a link of ours"; continue; fi
    if [ "$(readlink "$link" 2>/dev/null || true)" = "$current/bin/$name" ]; then continue; fi
    run mkdir -p "$dest/usr/local/bin"
    run ln -sfn "$current/bin/$name" "$link"
  done
}

detect() {
  if [ -d /run/systemd/system ]; then echo systemd
  elif command -v supervisorctl >/dev/null && [ -d /etc/supervisor/conf.d ] && supervisorctl pid >/dev/null 2>&1; then
    echo supervisord
  else echo onstart; fi
}

with_systemd() {
  with_paths agentd.service | put /etc/systemd/system/agentd.service
  start systemctl daemon-reload
  start systemctl enable --quiet agentd.service
  start systemctl restart agentd.service
}

with_supervisord() {
  with_paths agentd.supervisord.conf | put /etc/supervisor/conf.d/agentd.conf
  start supervisorctl reread
  start supervisorctl update agentd
  start supervisorctl restart agentd
}

# Processes of the loop that onstart.sh runs, in any version under the same folder. An agent that was given flags is
# somebody else's.
loop_processes() {
  for process in /proc/[0-9]*; do
    # One that ends meanwhile is no news.
    case $({ tr '\0' ' ' <"$process/cmdline"; } 2>/dev/null || true) in
      *"$(dirname "$root")/"*"/systemd/onstart.sh --loop " | *"$(dirname "$root")/"*"/lib/agentd.js ") echo "${process#/proc/}" ;;
    esac
  done
}

# Ends the loop and its agent, and waits until they are gone, since only one agent can run; their processes go on.
stop_loop() {
  tries=0
  while pids=$(loop_processes) && [ -n "$pids" ]; do
    # shellcheck disable=SC2086 # one word for each process
    kill $pids 2>/dev/null || true
    tries=$((tries + 1))
    if [ "$tries" -gt 20 ]; then fail "the agent that runs does not end" "End it by hand: kill $pids"; fi
    sleep 0.5
  done
}

with_onstart() {
  # Vast.ai runs the first at each start of the container, RunPod the second.
  script=/root/onstart.sh
  if [ ! -e "$dest/root/onstart.sh" ] && [ -e "$dest/start.sh" ]; then script=/post_start.sh; fi
  line="$current/systemd/onstart.sh # gpu-agent"
  {
    if [ -f "$dest$script" ]; then grep -v '# gpu-agent$' "$dest$script" || true; else echo '#!/bin/bash'; fi
    echo "$line"
  } | put "$script" 755
  if [ -n "$dest" ]; then return; fi
  if [ -z "$dry" ]; then stop_loop; fi
  run "$current/systemd/onstart.sh"
}

if [ -z "$dry$dest" ] && [ "$(id -u)" != 0 ]; then
  fail 'starting at boot needs root' 'Run this as root, or start bin/agentd --home DIR yourself.'
fi
if [ -z "$how" ]; then how=$(detect); fi
case $how in
  systemd | supervisord | onstart) ;;
  *) fail "--how $how is not known" 'Write --how systemd, supervisord or onstart.' 2 ;;
esac
if [ -n "$stop" ]; then
  case $how in
    systemd) systemctl stop agentd.service ;;
    supervisord) supervisorctl stop agentd ;;
    onstart) stop_loop ;;
  esac
  exit 0
fi
say "using $how"
link_programs
case $how in
  systemd) with_systemd ;;
  supervisord) with_supervisord ;;
  onstart) with_onstart ;;
esac
