#!/usr/bin/env bash
# Brings docker-compose.yml up as an operator does, and shows that it serves: all flows pass, a third gate serves, everything is as closed
# as it says, Prometheus sees every process, and a dc that is killed under bots loses nothing.
#
#   deploy/test-compose.sh FOLDER      FOLDER has the program `zone`, for example target/release
#
# Takes the Docker engine that answers, or else starts one of its own (needs root; docker.io and docker-compose are installed from Debian
# where they are missing) with its data in ~/.cache/paifang/docker, so that images are made once. Where there is no engine to be had it
# says so in one line and is content. Compose is `docker compose`, or else `docker-compose`; COMPOSE chooses. Leaves nothing running.
set -euo pipefail
cd "$(dirname "$0")/.."

binaries=${1:?usage: deploy/test-compose.sh FOLDER}
zone=$(realpath "$binaries/zone")
work=$(mktemp -d)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/paifang/docker
project=paifang-test-$$
engine=
bots=

say() { printf '   %s (%s s)\n' "$1" "$SECONDS"; }
skip() { echo "skipped the test of docker-compose.yml: $1"; exit 0; }
fail() {
    echo "test-compose: $1" >&2
    # Whoever reads the failure on CI has no other way to the containers' logs.
    [ ! -f "$work/.env" ] || { compose ps; compose logs --tail 6; } >&2 || true
    exit 1
}

clean_up() {
    local code=$?
    trap - EXIT
    [ -z "$bots" ] || kill "$bots" 2>/dev/null || true
    [ ! -f "$work/.env" ] || compose down --volumes --timeout 5 >/dev/null 2>&1 || true
    if [ -n "$engine" ]; then
        docker image rm "$project:test" >/dev/null 2>&1 || true
        kill "$engine"
        wait "$engine" 2>/dev/null || true
        # An engine closes forwarding for the whole machine.
        [ -z "${forward:-}" ] || iptables $forward || true
        umount "$work/exec/netns/default" 2>/dev/null || true
    fi
    rm -rf "$work" || true
    exit "$code"
}
trap clean_up EXIT

# until SECONDS WHAT COMMAND...: waits for the command to succeed.
until_true() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || fail "$what did not come about"
        sleep 0.5
    done
}

# --- an engine, Compose, images

have_tools() { command -v docker >/dev/null && { docker compose version || docker-compose version; } >/dev/null 2>&1; }

install_tools() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    timeout 120 sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends \
        -o DPkg::Lock::Timeout=60 docker.io docker-compose debootstrap iptables' >"$work/apt.log" 2>&1
}

engine_with() {
    mkdir -p "$cache"
    # One data folder, one engine.
    exec 9>"$cache/lock"
    flock --timeout 300 9 || return 1
    forward=$(iptables --list-rules FORWARD 2>/dev/null | head -1) || true
    # No bridge of its own: it would stay behind, and Compose makes those that the zone needs.
    dockerd --bridge none --data-root "$cache/root" --exec-root "$work/exec" --pidfile "$work/pid" --host "unix://$work/socket" "$@" \
        >"$work/dockerd.log" 2>&1 9>&- &
    engine=$!
    export DOCKER_HOST=unix://$work/socket
    for _ in $(seq 100); do
        docker info >/dev/null 2>&1 && return 0
        kill -0 "$engine" 2>/dev/null || break
        sleep 0.2
    done
    kill "$engine" 2>/dev/null || true
    wait "$engine" 2>/dev/null || true
    engine=
    return 1
}

have_tools || install_tools || skip "docker and Compose are not here and can't be installed"
if ! docker info >/dev/null 2>&1; then
    [ "$(id -u)" = 0 ] || skip "no Docker engine answers, and only root can start one"
    command -v dockerd >/dev/null || install_tools || skip "no Docker engine answers, and none can be installed"
    engine_with || engine_with --storage-driver vfs || skip "no Docker engine can run here: $(grep -m1 -iE 'failed|error' "$work/dockerd.log")"
fi
command -v python3 >/dev/null || skip "python3 is not here, with which answers are compared"
if [ -z "${COMPOSE:-}" ]; then
    if docker compose version >/dev/null 2>&1; then COMPOSE="docker compose"; else COMPOSE=docker-compose; fi
fi
compose() { $COMPOSE --project-name "$project" --env-file "$work/.env" --file docker-compose.yml --file "$work/test.yml" "$@"; }

say "engine $(docker version --format '{{.Server.Version}}'), $($COMPOSE version --short)"
bases="debian:bookworm-slim mariadb:10.11 redis:7.2-bookworm prom/prometheus:v2.53.4"
for base in $bases; do
    docker image inspect "$base" >/dev/null 2>&1 || timeout 120 docker pull --quiet "$base" >/dev/null 2>&1 || missing=1
done
if [ -n "${missing:-}" ]; then
    [ "$(id -u)" = 0 ] || skip "its images can't be pulled, and only root can make stand-ins"
    CACHE=$cache timeout 240 deploy/stand-in-images.sh >"$work/images.log" 2>&1 ||
        skip "its images can't be pulled, nor made from Debian packages: $(tail -1 "$work/images.log")"
fi
deploy/prebuilt-image.sh "$binaries" "$project:test" >/dev/null 2>"$work/image.log" || { cat "$work/image.log" >&2; exit 1; }
say "images are there"

# --- the zone

docker run --rm --network none --volume "$PWD/deploy/prometheus:/rules:ro" --entrypoint promtool prom/prometheus:v2.53.4 \
    test rules /rules/alerts.test.yml >"$work/rules.log" 2>&1 || { cat "$work/rules.log" >&2; exit 1; }
deploy/make-env.sh "$work/.env" 2>/dev/null
[ "$(stat -c %a "$work/.env")" = 600 ] || fail "the secrets' file can be read by others"
before=$(sha256sum <"$work/.env")
! deploy/make-env.sh "$work/.env" 2>/dev/null || fail "make-env.sh made a second file in place of the first"
[ "$before" = "$(sha256sum <"$work/.env")" ] || fail "make-env.sh changed a file that was there"

# Ports of this test's own, and a resume window that a flow can wait out.
base=$((20000 + $$ % 1000 * 10))
gm=$((base + 8)) prometheus=$((base + 9))
cat >>"$work/.env" <<ENV
PAIFANG_IMAGE=$project:test
PAIFANG_TCP_PORTS=127.0.0.1:$base-$((base + 3))
PAIFANG_WEBSOCKET_PORTS=127.0.0.1:$((base + 4))-$((base + 7))
PAIFANG_GM_PORT=127.0.0.1:$gm
PAIFANG_PROMETHEUS_PORT=127.0.0.1:$prometheus
ENV
ours="gate login center scene-1 scene-2 dc logsvc"
{
    echo "services:"
    for service in $ours; do echo "  $service: { environment: { ZONE__PLAYERS__RESUME_WINDOW_S: \"3\" } }"; done
} >"$work/test.yml"

containers() { docker ps --quiet --filter "label=com.docker.compose.project=$project" ${1:+--filter "label=com.docker.compose.service=$1"}; }
are_healthy() {
    local all
    all=$(containers)
    [ "$(wc -w <<<"$all")" = "$1" ] && docker inspect --format '{{.State.Health.Status}}' $all | { ! grep -qv '^healthy$'; }
}

compose up --detach --no-build >"$work/up.log" 2>&1 || { cat "$work/up.log" >&2; fail "up failed"; }
until_true 90 "11 healthy containers" are_healthy 11
say "11 containers are healthy"

for container in $(for service in $ours; do containers "$service"; done); do
    facts=$(docker inspect --format '{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}' "$container")
    [ "$facts" = "10001:10001 true [ALL]" ] || fail "a container of ours runs as: $facts"
    ! docker exec "$container" sh -c 'touch /etc/paifang/x || touch /x' 2>/dev/null || fail "a container's root can be written to"
done
published=$(for container in $(containers); do docker port "$container"; done | grep -c .)
# Two gates with two ports each, center, Prometheus.
[ "$published" = 6 ] || fail "$published ports are published, not 6"
say "our containers are closed"

export PAIFANG_ZONE=deploy/compose/zone.yaml PAIFANG_DATA=$work/data
export ZONE__PROCESSES__CENTER_1__HOST=127.0.0.1 ZONE__PROCESSES__CENTER_1__ADMIN=0.0.0.0:$gm
PAIFANG_GM_PASSWORD=$(docker exec "$(containers center)" cat /data/center-1/gm.password | sed -n 's/^admin //p')
export PAIFANG_GM_PASSWORD
gates() { for container in $(containers gate); do docker port "$container" 7000; done | sort; }
against() { for gate in $(gates); do printf -- '--against %s ' "$gate"; done; }

"$zone" replay deploy/flows $(against) >"$work/flows.log" || { cat "$work/flows.log" >&2; fail "flows failed"; }
say "$(tail -1 "$work/flows.log")"
! grep -q 'skipped' "$work/flows.log" || ! grep -q ', [1-9][0-9]* skipped' "$work/flows.log" || fail "flows were skipped: $(grep skip "$work/flows.log")"

if grep -q 'cache: redis' deploy/compose/zone.yaml; then
    [ "$(docker exec "$(containers redis)" redis-cli dbsize)" -gt 0 ] || fail "nothing is in Redis"
fi

# --- a third gate

compose up --detach --no-build --no-recreate --scale gate=3 >"$work/up.log" 2>&1 || { cat "$work/up.log" >&2; fail "scaling up failed"; }
until_true 60 "the third gate" are_healthy 12
[ "$(gates | wc -l)" = 3 ] || fail "there are not three gates"
for gate in $(gates); do
    "$zone" replay deploy/flows/login-good.yaml deploy/flows/chat-say.yaml --against "$gate" >"$work/flows.log" ||
        { cat "$work/flows.log" >&2; fail "flows failed at the gate $gate"; }
done
docker exec "$(containers center)" zone status --json >"$work/status.json"
python3 - "$work/status.json" <<'PY' || fail "zone status does not show the zone: $(cat "$work/status.json")"
import json, sys
processes = {process["id"]: process["ready"] for process in json.load(open(sys.argv[1]))["processes"]}
wanted = ["gate-1", "gate-2", "gate-3", "login-1", "center-1", "scene-1", "scene-2", "dc-1", "logsvc-1"]
assert processes == {process: True for process in wanted}, processes
PY
say "three gates serve"

targets_are_up() {
    python3 - "$prometheus" <<'PY'
import json, sys, urllib.request
answer = urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/api/v1/query?query=up", timeout=5)
up = [series["value"][1] for series in json.load(answer)["data"]["result"]]
assert up == ["1"] * 9, up
PY
}
until_true 60 "Prometheus' sight of nine processes" targets_are_up
say "Prometheus sees nine processes"

# --- dc is killed

# What players have, as the zone tells: `written PREFIX FILE`.
written() {
    for number in 0 1 2 3 4 5 6 7; do "$zone" gm player info "b$1_$number" --json; done >"$2" || fail "a player is not found"
}
compare() {
    python3 - "$@" <<'PY'
import json, sys
how, before, after = sys.argv[1:]
def read(path):
    text, at, found = open(path).read().strip(), 0, {}
    while at < len(text):
        document, at = json.JSONDecoder().raw_decode(text, at)
        document = document.get("result", document)
        found[document["name"]] = document
        while at < len(text) and text[at].isspace():
            at += 1
    return found
before, after = read(before), read(after)
assert len(before) == 8 and before.keys() == after.keys(), (before.keys(), after.keys())
for name, was in before.items():
    keys = ["level", "experience", "coins", "items", "version"]
    was, now = ({key: player[key] for key in keys} for player in (was, after[name]))
    good = was == now if how == "same" else all(was[key] <= now[key] for key in keys)
    assert good, f"{name}: {was} became {now}"
PY
}
run_bots() { "$zone" bots --count 8 --profile fight --prefix "$@" $(against) --json; }
has_earned() { written "$1" "$work/$1.before" && grep -q '"experience":[1-9]' "$work/$1.before"; }

# Some have left when dc is killed, others play on. To the first boars it is a walk of ten seconds.
run_bots stay --for 50s --reconnect >"$work/stay.json" 9>&- &
bots=$!
run_bots left --for 25s >"$work/left.json" || fail "bots failed: $(cat "$work/left.json")"
until_true 20 "a bot with experience" has_earned stay
has_earned left || fail "nobody had earned anything"
compose kill dc >/dev/null 2>&1
[ -z "$(containers dc)" ] || fail "dc was not killed"
sleep 2 # the time that it is away
compose start dc >/dev/null 2>&1 || fail "dc did not start"
until_true 60 "a zone that is healthy again" are_healthy 12
wait "$bots" || fail "bots failed: $(cat "$work/stay.json")"
bots=
written left "$work/left.after"
written stay "$work/stay.after"
compare same "$work/left.before" "$work/left.after" || fail "a player who had left is not as before dc was killed"
compare grown "$work/stay.before" "$work/stay.after" || fail "a player who played on lost something when dc was killed"
run_bots stay --for 2s >"$work/again.json" || fail "players can't come back: $(cat "$work/again.json")"
compare grown "$work/stay.after" <(written stay /dev/stdout) || fail "a player who came back lost something"
say "dc was killed under bots, nothing is lost"

# --- backup and restore, as deploy/README.md has it

is_quiet() { docker exec "$(containers center)" zone status --json >"$work/status.json" && grep -q '"online":0[,}]' "$work/status.json" && grep -q '"dirty":0[,}]' "$work/status.json"; }
if grep -q 'storage: mysql' deploy/compose/zone.yaml; then
    until_true 30 "a zone at rest" is_quiet
    written stay "$work/stay.before"
    compose exec -T mariadb sh -c 'mariadb-dump --single-transaction -uroot -p"$MARIADB_ROOT_PASSWORD" paifang' >"$work/paifang.sql" || fail "dump"
    for service in center logsvc; do
        compose exec -T "$service" tar -C /data -cf - . >"$work/$service.tar" || fail "copy $service"
    done
    compose down --volumes --timeout 30 >"$work/down.log" 2>&1 || fail "down with volumes"
    compose up --detach --no-build mariadb >"$work/up.log" 2>&1 || fail "mariadb alone"
    until_true 60 "an empty database" are_healthy 1
    compose exec -T mariadb sh -c 'mariadb -uroot -p"$MARIADB_ROOT_PASSWORD" paifang' <"$work/paifang.sql" || fail "restore the database"
    for service in center logsvc; do
        compose run --rm -T --no-deps --entrypoint tar "$service" -C /data -xpf - <"$work/$service.tar" >/dev/null 2>&1 || fail "restore $service"
    done
    compose run --rm -T --no-deps dc dc adopt --yes >"$work/adopt.log" 2>&1 || fail "adopt: $(cat "$work/adopt.log")"
    compose up --detach --no-build >"$work/up.log" 2>&1 || fail "up after the restore"
    until_true 90 "a restored zone that is healthy" are_healthy 11
    written stay "$work/stay.after"
    compare same "$work/stay.before" "$work/stay.after" || fail "a restored player is not as in the backup"
    run_bots stay --for 2s >"$work/again.json" || fail "restored players can't come back: $(cat "$work/again.json")"
    say "a backup is restored, its players play"
fi

compose down --timeout 30 >"$work/down.log" 2>&1 || { cat "$work/down.log" >&2; fail "down failed"; }
[ -z "$(containers)" ] || fail "containers are left after down"
say "down"
