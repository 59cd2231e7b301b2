#!/bin/sh
# For containers without systemd and supervisord: starts the agent in the background and starts it again when it
# crashes. Called at each start of the container (Vast.ai: from /root/onstart.sh, RunPod: from /post_start.sh), and
# harmless when the agent runs already: then the new one ends with status 8, and so does the loop.
set -eu

here=$(dirname "$(readlink -f "$0")")
agentd="$here/../bin/agentd"
log=${AGENT_LOG:-/var/log/agentd.log}

if [ "${1:-}" != --loop ]; then
  # A session of its own, so that the end of the calling script or of an ssh login does not reach it.
  setsid "$0" --loop >>"$log" 2>&1 </dev/null &
  exit 0
fi

export HOME="${HOME:-/root}"
pause=1 stopping='' pid=''
# Whoever ends the loop (docker stop, an upgrade) ends the agent, which gets its time to leave its state in order.
trap 'stopping=yes; kill -TERM "$pid" 2>/dev/null || true' TERM INT
while [ -z "$stopping" ]; do
  began=$(date +%s)
  "$agentd" &
  pid=$!
  status=0
  wait "$pid" || status=$?
  if [ -n "$stopping" ]; then
    wait "$pid" || true
    exit 0
  fi
  case $status in
    # 0: it was asked to stop. 2, 3, 8: wrong flags, a home that cannot be used, another agent; again would be the same.
    0 | 2 | 3 | 8) exit "$status" ;;
  esac
  # Half a minute without a crash is a good start; otherwise wait twice as long as before, half a minute at most.
  if [ $(($(date +%s) - began)) -ge 30 ]; then pause=1; fi
  echo "agentd ended with status $status; starting it again in $pause s"
  sleep "$pause"
  pause=$((pause * 2))
  if [ "$pause" -gt 30 ]; then pause=30; fi
done
