#!/usr/bin/env bash
# Holds ARCHITECTURE.md's arrows: what each crate of the workspace may import of the others, and nothing more.
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A allowed=(
    [proto]=""
    [service]="proto"
    [gate]="proto service"
    [login]="proto service"
    [center]="proto service"
    [scene]="proto service"
    [dc]="proto service"
    [logsvc]="proto service"
    [client]="proto"
    [cli]="center client dc gate login logsvc proto scene service"
)

failed=0
for crate in "${!allowed[@]}"; do
    # A path in parentheses marks the workspace's own crates; the first line is the crate itself.
    imports=$(cargo tree --locked --package "$crate" --edges normal,build --depth 1 --prefix none |
        tail -n +2 | sed -n 's/^\([a-z]*\) v[^ ]* (\/.*)$/\1/p' | sort -u)
    for import in $imports; do
        case " ${allowed[$crate]} " in
            *" $import "*) ;;
            *)
                echo "$crate imports $import: ARCHITECTURE.md allows it only: ${allowed[$crate]:-nothing}" >&2
                failed=1
                ;;
        esac
    done
done
exit "$failed"
