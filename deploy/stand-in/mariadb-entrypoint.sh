#!/bin/sh
# The official entrypoint's contract, as far as docker-compose.yml uses it: an empty /var/lib/mysql is filled, with MARIADB_DATABASE,
# MARIADB_USER and MARIADB_PASSWORD, and root's password MARIADB_ROOT_PASSWORD; then the server runs as user mysql.
set -eu
[ "${1#-}" = "$1" ] || set -- mariadbd "$@"
[ "$1" = mariadbd ] || exec "$@"
shift
data=/var/lib/mysql
install -d -o mysql -g mysql /run/mysqld
chown mysql:mysql "$data"
if [ ! -d "$data/mysql" ]; then
    : "${MARIADB_ROOT_PASSWORD:?is needed to make the database}"
    mariadb-install-db --user=mysql --datadir="$data" --auth-root-authentication-method=normal --skip-test-db >/dev/null
    socket=/run/mysqld/first.sock
    # No network: nobody may take the half-made server for a ready one.
    mariadbd --user=mysql --datadir="$data" --skip-networking --socket="$socket" "$@" &
    server=$!
    until mariadb-admin --no-defaults --socket="$socket" ping >/dev/null 2>&1; do kill -0 "$server"; sleep 0.2; done
    quoted() { printf '%s' "$1" | sed "s/[\\\\']/\\\\&/g"; }
    mariadb --no-defaults --socket="$socket" <<SQL
CREATE DATABASE IF NOT EXISTS \`${MARIADB_DATABASE:?}\`;
CREATE USER '${MARIADB_USER:?}'@'%' IDENTIFIED BY '$(quoted "${MARIADB_PASSWORD:?}")';
GRANT ALL ON \`$MARIADB_DATABASE\`.* TO '$MARIADB_USER'@'%';
CREATE USER 'root'@'%' IDENTIFIED BY '$(quoted "$MARIADB_ROOT_PASSWORD")';
GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;
ALTER USER 'root'@'localhost' IDENTIFIED BY '$(quoted "$MARIADB_ROOT_PASSWORD")';
SQL
    kill "$server"
    wait "$server"
fi
exec mariadbd --user=mysql --datadir="$data" "$@"
