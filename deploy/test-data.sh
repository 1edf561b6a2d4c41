#!/usr/bin/env bash
# Fetches the ROOT and luminosity files that the tests read, once, into the environment (6 MB; they are in no wheel).
# usage: deploy/test-data.sh [.venv]
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
venv=${1:-$here/../.venv}
target=$venv/share/lumiwatch-test-data
files=(nano_tt_v15.root nano_dimuon.root nano_dimuon_rntuple.root PHYSLITE_example.root lumi_small.csv)

complete=yes
for file in "${files[@]}"; do [ -s "$target/$file" ] || complete=no; done
[ "$complete" = yes ] && exit 0

echo "fetching the ROOT files of the tests (30 MB, once) ..."
mkdir -p "$venv/share"
scratch=$(mktemp -d "$venv/share/.test-data.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
# pip compares the hash before it looks into the archive
if ! "$venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary coffea \
  --require-hashes --requirement "$here/test-data.txt" --dest "$scratch" 2>"$scratch/log"; then
  tail -n 5 "$scratch/log" >&2
  echo "test-data.sh: the source distribution of coffea could not be fetched: check the package index and try again" >&2
  exit 2
fi
"$venv/bin/python" - "$scratch" "${files[@]}" <<'PYTHON'
import sys
import tarfile
from pathlib import Path

folder = Path(sys.argv[1])
archive = next(folder.glob("coffea-*.tar.gz"))
(folder / "files").mkdir()
with tarfile.open(archive) as content:
    for name in sys.argv[2:]:
        member = content.getmember(f"{archive.name.removesuffix('.tar.gz')}/tests/samples/{name}")
        source = content.extractfile(member)  # None for a link or a device
        if source is None:
            sys.exit(f"test-data.sh: {member.name} is no plain file")
        (folder / "files" / name).write_bytes(source.read())
PYTHON
mkdir -p "$target"
mv -f "$scratch"/files/* "$target"/
