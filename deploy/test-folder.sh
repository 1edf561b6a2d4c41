#!/usr/bin/env bash
# Prints where tests keep their files: where TMPDIR says, else in memory, if there is room for them and programs may run
# there, else in /tmp. SQLite waits for the disk at every commit, and nothing of a test need outlive the machine.
set -euo pipefail
memory=/dev/shm
least_kib=$((4 * 1024 * 1024))
usual=/tmp

if [[ -n ${TMPDIR:-} ]]; then echo "$TMPDIR"; exit; fi
probe=$(mktemp "$memory/lumiwatch-probe-XXXXXX" 2>/dev/null) || { echo "$usual"; exit; }
trap 'rm -f "$probe"' EXIT
free_kib=$(df --output=avail -k "$memory" | tail -n 1)
cp /bin/true "$probe" && chmod +x "$probe"
if (( free_kib >= least_kib )) && "$probe" 2>/dev/null; then echo "$memory"; else echo "$usual"; fi
