#!/bin/sh
# The official entrypoint's contract: arguments are redis-server's, which runs as user redis on /data.
set -eu
[ "${1#-}" = "$1" ] || set -- redis-server "$@"
if [ "$(id -u)" = 0 ]; then
    chown redis:redis /data
    exec setpriv --reuid=redis --regid=redis --clear-groups "$@"
fi
exec "$@"
