#!/usr/bin/env bash
# Installs what the tests on real systems use, from Debian where it is missing: the servers MariaDB and Redis; strace, which kills, fails and
# delays system calls; the makers of the file systems that tests fill; promtool, which tests alert rules.
# No system service is started: every test starts servers of its own, with their own data folders, on loopback.
#
#   ./deploy/install-test-servers.sh      quiet when there is nothing to do
#
# Leaves with 0 when all are there, with 3 and one line that says why when they can't be installed; the tests that
# need a missing one then skip themselves and say so.
set -euo pipefail

say() { echo "install-test-servers: $*" >&2; }

# Servers lie in sbin, which a user's PATH need not hold.
PATH="$PATH:/usr/sbin:/usr/local/sbin:/sbin"

missing=()
command -v mariadbd >/dev/null && command -v mariadb-install-db >/dev/null || missing+=(mariadb-server)
command -v redis-server >/dev/null || missing+=(redis-server)
command -v strace >/dev/null || missing+=(strace)
command -v mkfs.ext4 >/dev/null || missing+=(e2fsprogs)
command -v mkfs.xfs >/dev/null || missing+=(xfsprogs)
command -v promtool >/dev/null || missing+=(prometheus)
[ "${#missing[@]}" -gt 0 ] || exit 0

command -v apt-get >/dev/null || { say "skipped: ${missing[*]} missing, and this is no Debian (no apt-get)"; exit 3; }
[ "$(id -u)" = 0 ] || { say "skipped: ${missing[*]} missing, and installing needs root"; exit 3; }

# Debian starts what it installs, unless this policy says no (101: action forbidden).
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi

log="$(mktemp)"
export DEBIAN_FRONTEND=noninteractive
# Another program may hold the package lock: wait for it a while.
lock=(-o DPkg::Lock::Timeout=180)
if apt-get -qq update >"$log" 2>&1 && apt-get -qq -y "${lock[@]}" install --no-install-recommends "${missing[@]}" >>"$log" 2>&1; then
    rm -f "$log"
else
    say "skipped: ${missing[*]} could not be installed: $(grep -m1 '^E:' "$log" || tail -n 1 "$log") (whole log: $log)"
    exit 3
fi
