#!/usr/bin/env bash
# Shows that the commands of deploy/README.md's page on backup and restore do what it says, on a zone of `zone up`: a copy taken while the
# zone runs, and one taken after it stopped, are each restored elsewhere, and the players find everything and log in.
#
#   deploy/test-backup.sh FOLDER       FOLDER has the program `zone`, for example target/debug
set -euo pipefail
cd "$(dirname "$0")/.."

zone=$(realpath "${1:?usage: deploy/test-backup.sh FOLDER}/zone")
work=$(mktemp -d)
up=
if ! command -v sqlite3 >/dev/null; then
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=60 sqlite3 >/dev/null 2>&1 ||
        { echo "skipped the test of backups: sqlite3 is not here and can't be installed"; exit 0; }
fi

say() { printf '   %s (%s s)\n' "$1" "$SECONDS"; }
fail() { echo "test-backup: $1" >&2; exit 1; }
clean_up() {
    local code=$?
    trap - EXIT
    [ -z "$up" ] || { kill "$up" 2>/dev/null; wait "$up"; } || true
    rm -rf "$work"
    exit "$code"
}
trap clean_up EXIT

# Brings a zone up on DATA; ready when the line says so.
bring_up() {
    "$zone" --data "$1" up --free-ports --json >"$work/news" 2>"$work/errors" &
    up=$!
    for _ in $(seq 300); do
        ! grep -q '"ready"' "$work/news" || return 0
        kill -0 "$up" 2>/dev/null || fail "zone up on $1 ended: $(cat "$work/errors")"
        sleep 0.1
    done
    fail "the zone on $1 is not ready: $(cat "$work/news" "$work/errors")"
}
stop() {
    kill "$up"
    wait "$up" || fail "the zone did not stop in order: $(tail -3 "$work/errors")"
    up=
}
# What players have, as the zone tells; not where and when they were seen last.
written() {
    for number in 0 1 2 3 4 5; do
        "$zone" --data "$1" gm player info "bkeep_$number" --json |
            grep -oE '"(name|level|experience|coins|items|map|version|created_ms)":("[^"]*"|[0-9]+)' || fail "a player is not found on $1"
    done
}
play() { "$zone" --data "$1" bots --count 6 --profile fight --prefix keep --for "$2" --json >"$work/bots" || fail "bots failed: $(cat "$work/bots")"; }
# Nobody is in the world, and the database has everything.
is_quiet() { "$zone" --data "$1" status --json >"$work/status" && grep -q '"online":0[,}]' "$work/status" && grep -q '"dirty":0[,}]' "$work/status"; }
until_quiet() {
    for _ in $(seq 100); do ! is_quiet "$1" || return 0; sleep 0.1; done
    fail "the zone on $1 does not come to rest: $(cat "$work/status")"
}

bring_up "$work/first"
play "$work/first" 25s
until_quiet "$work/first"
written "$work/first" >"$work/then"
grep -qE '"experience":[1-9]' "$work/then" || fail "nobody had earned anything"

deploy/backup.sh "$work/first" "$work/backup" 2>/dev/null
say "a copy of the running zone is made"
[ "$(stat -c %a "$work/backup")" = 700 ] || fail "others can read the backup"
! deploy/backup.sh "$work/first" "$work/backup" 2>/dev/null || fail "a backup was written over"

# What comes after the backup is not in it.
play "$work/first" 1s
until_quiet "$work/first"
written "$work/first" >"$work/at-last"
stop
mkdir "$work/stopped"
tar -C "$work/first" -cf - . | tar -C "$work/stopped" -xpf -
say "a copy of the stopped zone is made"

cp -a "$work/backup" "$work/second"
! "$zone" run dc-1 --zone deploy/zone.yaml --data "$work/second" >"$work/refused" 2>&1 || fail "dc started without its journal"
grep -q 'zone dc adopt' "$work/refused" || fail "dc does not say what to do without its journal: $(cat "$work/refused")"
"$zone" dc adopt --data "$work/second" --yes >"$work/adopted" || fail "the copy can't be adopted: $(cat "$work/adopted")"
bring_up "$work/second"
written "$work/second" >"$work/now"
cmp "$work/then" "$work/now" || fail "the zone of the first copy is not as it was: $(diff "$work/then" "$work/now")"
"$zone" --data "$work/second" logs find --player bkeep_0 --since 1h --json | grep -q . || fail "the first copy has no events"
play "$work/second" 1s
stop
say "the copy of the running zone has everything, and its players play"

bring_up "$work/stopped"
written "$work/stopped" >"$work/now"
cmp "$work/at-last" "$work/now" || fail "the zone of the second copy is not as it was: $(diff "$work/at-last" "$work/now")"
play "$work/stopped" 1s
stop
say "the copy of the stopped zone has everything, and its players play"
