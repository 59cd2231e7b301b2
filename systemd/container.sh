#!/bin/sh
# What the image runs, under tini: sshd where the provider gives a key (RunPod: PUBLIC_KEY, Vast.ai: SSH_PUBLIC_KEY), and
# the agent. A provider that starts containers its own way (Vast.ai's ssh mode) calls onstart.sh instead.
set -eu

key=${PUBLIC_KEY:-${SSH_PUBLIC_KEY:-}}
if [ -n "$key" ]; then
  mkdir -p /root/.ssh /run/sshd
  chmod 700 /root/.ssh
  touch /root/.ssh/authorized_keys
  chmod 600 /root/.ssh/authorized_keys
  grep -qxF "$key" /root/.ssh/authorized_keys || printf '%s\n' "$key" >>/root/.ssh/authorized_keys
  # The image has no host keys: those of an image would be the same on every box that is made of it.
  ssh-keygen -A >/dev/null
  /usr/sbin/sshd
fi

exec "$(dirname "$(readlink -f "$0")")/onstart.sh" --loop
