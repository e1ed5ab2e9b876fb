#!/usr/bin/env bash
# Makes stand-ins for the base images that docker-compose.yml and deploy/Dockerfile name, from Debian packages, for machines with a
# Docker engine that reach a Debian mirror but no registry. They keep what the compose file uses of the official images: names, tags,
# environment variables, volumes, arguments, health checks. An image that is there already is kept. Needs root.
#
#   deploy/stand-in-images.sh              makes those that are missing
#   MIRROR=URL SUITE=bookworm              another mirror than debootstrap's own, or another suite
#   CACHE=/var/cache/paifang               keeps the bootstrapped root there, for the next run
#
# They are for tests: no security updates, and the versions are Debian's (the label `paifang.stand-in` of each says which).
set -euo pipefail

suite=${SUITE:-bookworm}
files="$(cd "$(dirname "$0")" && pwd)/stand-in"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

is_there() { docker image inspect "$1" >/dev/null 2>&1; }

make_base() {
    local archive=${CACHE:-$work}/base-$suite.tar
    if [ ! -f "$archive" ]; then
        command -v debootstrap >/dev/null || { echo "debootstrap is missing: apt-get install debootstrap" >&2; exit 1; }
        mkdir -p "$(dirname "$archive")"
        debootstrap --variant=minbase --include=ca-certificates "$suite" "$work/tree" ${MIRROR:+"$MIRROR"} >"$work/debootstrap.log" 2>&1 ||
            { tail -20 "$work/debootstrap.log" >&2; exit 1; }
        rm -rf "$work"/tree/var/cache/apt/archives/*.deb "$work"/tree/var/lib/apt/lists/*
        tar -C "$work/tree" -cf "$archive.new" .
        mv "$archive.new" "$archive"
        rm -rf "$work/tree"
    fi
    docker import --change 'CMD ["bash"]' --change "LABEL paifang.stand-in=debian-$suite" "$archive" "$1" >/dev/null
}

# Builds stand-in/Dockerfile's target NAME. The host's network: a bridge need not reach the mirror.
make_image() { docker build --quiet --network host --target "$1" --tag "$2" "$files" >/dev/null; }

# missing base|image TAG [TARGET]
missing() {
    if is_there "$2"; then
        echo "$2 is there"
    else
        echo "making $2"
        "make_$1" "${@:3}" "$2"
    fi
}

missing base debian:bookworm-slim
pids=()
for image in mariadb:10.11 redis:7.2-bookworm prom/prometheus:v2.53.4; do
    # mariadb, redis, prometheus are the targets' names.
    target=${image%%:*}
    missing image "$image" "${target##*/}" &
    pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid"; done
