#!/usr/bin/env bash
# Holds: every metric that an alert rule reads is one that the program writes. A rule on a metric with another name never fires.
set -euo pipefail
cd "$(dirname "$0")/.."

failed=0
for metric in $(grep -oh 'paifang_[a-z_]*' deploy/prometheus/alerts.yml | sort -u); do
    # Histograms are written under the name without these endings.
    name=$(sed -E 's/_(bucket|sum|count)$//' <<<"$metric")
    if ! grep -rqE --include='*.rs' "\"($metric|$name)\"" ./*/src; then
        echo "deploy/prometheus/alerts.yml: no process writes $metric" >&2
        failed=1
    fi
done
exit "$failed"
