# A GPU image with the agent baked in. Build it with
#   docker build -t gpu-agent .
# and on another base, for example one that has ComfyUI already, with
#   docker build --build-arg BASE=vastai/comfy:latest -t gpu-agent-comfy .
# It holds what `npm run package` makes, from the same script.

# The CUDA runtime decides which drivers the image runs on, so whoever builds it chooses.
ARG BASE=nvidia/cuda:12.8.1-runtime-ubuntu24.04
# 1.63 or newer: older ones leave cut-off files on remotes that are not buckets.
ARG RCLONE_VERSION=1.75.2

FROM rclone/rclone:${RCLONE_VERSION} AS rclone

# Built where Node and npm are; nothing of this stage but the release reaches the image.
FROM node:24-bookworm-slim AS build
WORKDIR /src
# The dependencies change less often than the sources: this layer is reused until the lockfile changes.
COPY package.json package-lock.json ./
# Of the packages' own scripts only the one that brings the release its Node: the native modules come built, and npm would
# have one compiled again, for which this image has no compiler.
RUN npm ci --ignore-scripts && npm rebuild node
COPY . .
RUN npm run package -- --folder /release

FROM ${BASE}
# Packages before the release: they change least, and an upgrade of the agent then moves one layer alone.
# git and python3-venv for custom nodes and the overlay, openssh-server for the way in, tini for the zombies.
# Whoever builds it chooses the base, and with it which versions there are.
# hadolint ignore=DL3008
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      ca-certificates git openssh-server python3 python3-pip python3-venv tini \
 && rm -rf /var/lib/apt/lists/* \
 # Host keys that were made with the image would be the same on every box; container.sh makes each its own.
 && rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub
COPY --from=rclone /usr/local/bin/rclone /usr/local/bin/rclone
COPY --from=build /release /opt/gpu-agent/release
# The same shape as an installation over ssh has, so that `agentctl install` can upgrade a box made of this image.
RUN version="$(/opt/gpu-agent/release/bin/agentd --version)" \
 && ln -s release "/opt/gpu-agent/$version" \
 && ln -s "$version" /opt/gpu-agent/current \
 && ln -s /opt/gpu-agent/current/bin/agentd /opt/gpu-agent/current/bin/agentctl /usr/local/bin/

# No port is exposed: the agent listens on a unix socket, reached through ssh.
# The agent is not the first process: tini passes signals on and collects what jobs leave behind (-s: also where a
# provider puts a process of its own before it).
ENTRYPOINT ["/usr/bin/tini", "-s", "--", "/opt/gpu-agent/current/systemd/container.sh"]
