"""The conversion against `uproot.iterate` reading the same branches, and its memory for files of two sizes.

The files are written here: L1 objects as NanoAOD has them, under the shipped contract `axol1tl-v5`. Memory is
the peak of a child process, which converts one file and nothing else.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import uproot

from streams.contracts.library import find_contract
from streams.conversion.chunk import branches_of
from streams.conversion.convert import convert_files
from tests.benchmarks.row import Row, best_seconds
from tests.support.root_files import write_l1_nano

CONTRACT = "axol1tl-v5"
_ALONE = "16 MB"
"""The step that reading alone is quickest with, beside 8 MB: larger ones take 5 to 15 % longer."""
_CHILD = """
import json, resource, sys
from pathlib import Path
from streams.contracts.library import find_contract
from streams.conversion.convert import convert_files
made = convert_files([sys.argv[1]], find_contract(sys.argv[2]), Path(sys.argv[3]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"kept": made.provenance.events_kept, "peak_kb": peak}))
"""


def run(quick: bool) -> list[Row]:
    """Measure speed and memory; `quick` on files too small to judge by."""
    with tempfile.TemporaryDirectory(prefix="lumiwatch-bench-") as folder:
        return [
            _speed(Path(folder), quick=quick, packed="zlib"),
            _speed(Path(folder), quick=quick, packed="lzma"),
            _memory(Path(folder), quick=quick),
        ]


def _speed(folder: Path, *, quick: bool, packed: str) -> Row:
    """Compare with reading alone: on a file as uproot writes it, and on one packed as CMS packs NanoAOD."""
    n_events, repeats = (5_000, 1) if quick else (250_000, 5)
    compression = uproot.ZLIB(1) if packed == "zlib" else uproot.LZMA(9)
    source = write_l1_nano(folder / f"{packed}.root", n_events, compression=compression)
    contract = find_contract(CONTRACT)
    branches = branches_of(contract)
    out = folder / "speed.npz"

    def read_alone() -> int:
        with uproot.open({str(source): None}) as file:
            steps = file["Events"].iterate(filter_name=lambda name: name in branches, step_size=_ALONE)
            return sum(len(step) for step in steps)

    made = convert_files([source], contract, out)  # compiles, and fills the page cache
    if (made.provenance.events_kept, read_alone()) != (n_events, n_events):
        raise AssertionError("the conversion lost events")
    best = [float("inf"), float("inf")]
    for _ in range(repeats):  # in turn, so that what else the machine does meets both alike
        best[0] = min(best[0], best_seconds(read_alone, 1))
        best[1] = min(best[1], best_seconds(lambda: convert_files([source], contract, out), 1))
    ratio = best[1] / best[0]
    return Row(
        name=f"convert, {n_events} events, {len(branches)} branches ({packed}) to {contract.n_inputs} inputs",
        value=best[1],
        unit="s",
        baseline="uproot.iterate of the same branches",
        baseline_value=best[0],
        ratio=ratio,
        target=None if quick or packed == "lzma" else "<= 1.3x",
        met=None if quick or packed == "lzma" else ratio <= 1.3,
    )


def _memory(folder: Path, *, quick: bool) -> Row:
    n_events, times = (5_000, 2) if quick else (200_000, 20)
    contract = find_contract(CONTRACT)
    peaks = []
    for name, events in (("small", n_events), ("large", n_events * times)):
        source = write_l1_nano(folder / f"{name}.root", events)
        arguments = [sys.executable, "-c", _CHILD, str(source), CONTRACT, str(folder / f"{name}.npz")]
        said = json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)
        if said["kept"] != events:
            raise AssertionError(f"{contract.name}: kept {said['kept']} of {events} events")
        peaks.append(said["peak_kb"] / 1024)
        source.unlink()
        (folder / f"{name}.npz").unlink()
    ratio = peaks[1] / peaks[0]
    return Row(
        name=f"convert, peak memory, a file {times} times as large ({n_events * times} events)",
        value=peaks[1],
        unit="MiB",
        baseline=f"the same with {n_events} events",
        baseline_value=peaks[0],
        ratio=ratio,
        target=None if quick else "<= 1.2x",
        met=None if quick else ratio <= 1.2,
    )
