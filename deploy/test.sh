#!/usr/bin/env bash
# The test command: formatting, lints, the direction of dependencies, then unit, property and end-to-end tests.
# The end-to-end tests start real zones on free ports of this machine. Needs a Rust toolchain and a C compiler.
#
#   ./deploy/test.sh             everything but the containers
#   ./deploy/test.sh quick       the same without the end-to-end tests
#   ./deploy/test.sh compose     everything, and docker-compose.yml brought up on this machine's or a Docker engine of its own
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }

case "${1:-all}" in
    all | quick | compose) ;;
    *) echo "usage: deploy/test.sh [quick|compose]" >&2; exit 2 ;;
esac

step "formatting"
cargo fmt --all --check

step "lints"
cargo clippy --workspace --all-targets --locked -- -D warnings

step "direction of dependencies"
deploy/check-arrows.sh

step "servers for the tests"
# 3: they can't be installed here, and the tests that need them skip themselves.
deploy/install-test-servers.sh || [ $? = 3 ]

step "alert rules"
deploy/check-alerts.sh

step "unit and property tests"
cargo test --workspace --locked --lib --bins --quiet
cargo test --workspace --locked --doc --quiet
# Tests of one process over loopback, and of the command line.
cargo test --workspace --locked --quiet --test '*' -- --skip zone_

if [ "${1:-all}" != quick ]; then
    step "end-to-end tests"
    # One zone at a time: each of them already uses both cores.
    cargo test --locked -p cli --test '*' -- --test-threads=1 zone_

    built=${CARGO_TARGET_DIR:-target}/debug
    step "backup and restore"
    deploy/test-backup.sh "$built"
fi

if [ "${1:-all}" = compose ]; then
    step "docker-compose.yml"
    timeout --kill-after 30 900 deploy/test-compose.sh "$built"
fi

step "done"
