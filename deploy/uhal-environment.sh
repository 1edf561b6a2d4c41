#!/usr/bin/env bash
# Builds .venv-uhal with CERN's IPbus client, which only the interoperability test uses; nothing when it is there.
# usage: deploy/uhal-environment.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${1:-.venv-uhal}
wanted=tests/interop/uhal.txt
cmp -s "$wanted" "$folder/.installed" && exit 0
python=${PYTHON:-python3.11}
"$python" -m venv --clear "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$wanted"
cp "$wanted" "$folder/.installed"
