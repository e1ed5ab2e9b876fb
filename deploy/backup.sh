#!/usr/bin/env bash
# Copies the state of a zone of `zone up` (storage: sqlite) while it runs, or after it has stopped: deploy/README.md says how to restore it.
#
#   deploy/backup.sh DATA TO        DATA: the data folder; TO: a folder that is not there yet
#
# Players are as of one moment: all that was in the database, whole commits only. What was answered in the second before may be
# missing. dc's journal is not copied: it belongs to the database as it is, so a restore begins with `zone dc adopt`. Needs sqlite3.
set -euo pipefail

data=${1:?usage: deploy/backup.sh DATA TO} to=${2:?usage: deploy/backup.sh DATA TO}
[ ! -e "$to" ] || { echo "backup: $to is there already" >&2; exit 1; }
command -v sqlite3 >/dev/null || { echo "backup: sqlite3 is missing: apt-get install sqlite3" >&2; exit 1; }
cd "$data"
databases=(*/players.sqlite)
[ -f "${databases[0]}" ] || { echo "backup: there is no database of a dc in $data" >&2; exit 1; }
cd - >/dev/null

umask 077
# Under another name until it is whole.
new=$to.new
rm -rf "$new"
mkdir -p "$new"
# Secrets, events, and what waits to be sent to logsvc. Events are appended: the end of a file that was being written to is cut at the
# restored zone's first start. Not: what dc's database has, logs, and what belongs to a run.
code=0
tar -C "$data" -cf - --warning=no-file-changed --exclude='players.*' --exclude=journal --exclude='*.log' --exclude='*.log.old' \
    --exclude='*lock' --exclude=zone.yaml . | tar -C "$new" -xpf - || code=$?
# 1: a file changed while it was read.
[ "$code" -le 1 ]
for database in "${databases[@]}"; do
    sqlite3 "$data/$database" '.timeout 10000' ".backup '$new/$database'"
    [ "$(sqlite3 "$new/$database" 'PRAGMA integrity_check')" = ok ] || { echo "backup: the copy of $database is damaged" >&2; exit 1; }
done
chmod 0700 "$new"
sync -f "$new"
mv "$new" "$to"
echo "backup: wrote $to" >&2
