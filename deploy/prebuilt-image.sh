#!/usr/bin/env bash
# Makes the image from a `zone` that was built outside: for machines that reach no registry, and to save a second build.
#
#   deploy/prebuilt-image.sh FOLDER [TAG]      FOLDER has the program `zone`: target/release; TAG: paifang:local
set -euo pipefail

folder=${1:?usage: deploy/prebuilt-image.sh FOLDER [TAG]}
tag=${2:-paifang:local}
[ -x "$folder/zone" ] || { echo "prebuilt-image: there is no program $folder/zone; build it: cargo build --release" >&2; exit 1; }
# Of a folder of build output nothing else shall go to the engine.
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
install -m 0755 "$folder/zone" "$context/zone"
# Symbols are of no use in a container.
if command -v strip >/dev/null; then strip --strip-debug "$context/zone"; fi
# Nothing is fetched from anywhere.
docker build --quiet --network none --target prebuilt --tag "$tag" --file "$(dirname "$0")/Dockerfile" "$context" >/dev/null
echo "$tag"
