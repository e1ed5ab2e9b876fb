#!/usr/bin/env bash
# Holds: every metric that an alert rule reads is one that the program writes (a rule on a metric with another name never fires), every rule
# has a test, and the tests pass where there is a promtool (Debian's package prometheus has it).
set -euo pipefail
cd "$(dirname "$0")/.."
rules=deploy/prometheus/alerts.yml
tests=deploy/prometheus/alerts.test.yml

failed=0
for metric in $(grep -oh 'paifang_[a-z_]*' "$rules" | sort -u); do
    # Histograms are written under the name without these endings.
    name=$(sed -E 's/_(bucket|sum|count)$//' <<<"$metric")
    if ! grep -rqE --include='*.rs' "\"($metric|$name)\"" ./*/src; then
        echo "$rules: no process writes $metric" >&2
        failed=1
    fi
done

for alert in $(sed -nE 's/^ *- alert: //p' "$rules"); do
    # With an alert that is expected: that a rule is silent shows nothing.
    if ! grep -qx " *alertname: $alert" "$tests"; then
        echo "$tests: nothing shows that $alert fires" >&2
        failed=1
    fi
done

if command -v promtool >/dev/null; then
    promtool check rules "$rules" >/dev/null || failed=1
    promtool test rules "$tests" >/dev/null || failed=1
else
    echo "check-alerts: skipped the tests of the rules: no promtool on this machine (run deploy/install-test-servers.sh)" >&2
fi
exit "$failed"
