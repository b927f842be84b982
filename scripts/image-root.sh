#!/bin/sh
# Builds the root directory of the container image: usage image-root.sh DIRECTORY [VERSION]
# The Dockerfile and the test that runs the image without Docker both use it, so they cannot differ.
set -eu
root=$1
cd "$(dirname "$0")/.."
mkdir -p "$root/data"
CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.release=${2:-}" -o "$root/emulator" ./cmd/emulator
# A user without rights may bind port 443 (Docker allows it anyway, other engines need this).
setcap cap_net_bind_service=+ep "$root/emulator"
