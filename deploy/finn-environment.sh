#!/usr/bin/env bash
# Builds the environment in which lumiwatch runs FINN (several GB, most of it torch); nothing when it is there.
# usage: deploy/finn-environment.sh [FOLDER]     (default: $LUMIWATCH_FINN or ~/.local/share/lumiwatch/finn)
# A package index with a CPU-only torch saves more than half: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${1:-${LUMIWATCH_FINN:-$HOME/.local/share/lumiwatch/finn}}
wanted=tests/interop/finn.txt
cmp -s "$wanted" "$folder/.installed" && exit 0
python=${PYTHON:-python3.11}
echo "installing FINN into $folder (several GB, once) ..."
"$python" -m venv --clear "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$wanted"
cp "$wanted" "$folder/.installed"
