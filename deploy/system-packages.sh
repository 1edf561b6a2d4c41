#!/usr/bin/env bash
# Installs what Python cannot bring, where that is possible (root and apt); otherwise says in one line what to install.
# usage: deploy/system-packages.sh [compiler] [browser] [database] [alertmanager] [promtool] [ghdl]
set -euo pipefail

missing=()
for need in "$@"; do
  case "$need" in
    compiler) command -v g++ >/dev/null || missing+=(g++) ;;
    browser) command -v chromium >/dev/null || missing+=(chromium) ;;
    # the tests start a server of their own from its programs; none of Debian's clusters has to run
    database) command -v postgres >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || missing+=(postgresql) ;;
    alertmanager) command -v prometheus-alertmanager >/dev/null || command -v alertmanager >/dev/null || missing+=(prometheus-alertmanager) ;;
    promtool) command -v promtool >/dev/null || missing+=(prometheus) ;;
    ghdl) command -v ghdl >/dev/null || missing+=(ghdl) ;;
    *) echo "system-packages.sh knows 'compiler', 'browser', 'database', 'alertmanager', 'promtool' and 'ghdl', not '$need'" >&2; exit 2 ;;
  esac
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  echo "installing ${missing[*]} with apt (once) ..."
  log=$(mktemp)
  # Debian asks this file before it starts the service of a package: the tests start their own, on their own ports
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
  fi
  if DEBIAN_FRONTEND=noninteractive apt-get update -qq >"$log" 2>&1 &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >>"$log" 2>&1; then
    rm -f "$log"
    exit 0
  fi
  tail -n 5 "$log" >&2
  rm -f "$log"
fi
echo "lumiwatch needs ${missing[*]}: please install it (Debian, Ubuntu: sudo apt-get install ${missing[*]}) and try again" >&2
exit 2
