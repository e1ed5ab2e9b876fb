#!/usr/bin/env bash
# Makes the secrets of a zone in docker-compose: writes FILE (default: .env at the root, where Compose reads it) with mode 0600.
# Never overwrites: with other secrets than those that its volumes were made with a zone does not start. Keep the file with the backups.
#
#   deploy/make-env.sh [FILE]
set -euo pipefail

file=${1:-$(cd "$(dirname "$0")/.." && pwd)/.env}
if [ -e "$file" ]; then
    echo "make-env: $file is there already and is kept; remove it if you are sure that no zone needs it" >&2
    exit 1
fi
# Hexadecimal digits: they stand in an URL and in a shell as they are.
random() { head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

umask 077
new=$(mktemp "$file.XXXXXX")
trap 'rm -f "$new"' EXIT
cat >"$new" <<ENV
# Made by deploy/make-env.sh. Who has this file is the zone's operator.
# Processes of the zone know each other by it; tickets are signed with keys derived from it.
PAIFANG_SECRET=$(random)
# MariaDB: the zone's user, and root.
MARIADB_PASSWORD=$(random)
MARIADB_ROOT_PASSWORD=$(random)
REDIS_PASSWORD=$(random)
ENV
# A link, unlike a rename, fails when the name was taken meanwhile.
ln "$new" "$file"
echo "make-env: wrote $file" >&2
