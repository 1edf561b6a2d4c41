"""The conversion against `uproot.iterate` reading the same branches, and its memory for files of two sizes.

The files are written here: L1 objects as NanoAOD has them, under the shipped contract `axol1tl-v5`. Memory is
the peak of a child process, which converts one file and nothing else.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import uproot

from streams.contracts.library import find_contract
from streams.conversion.chunk import branches_of
from streams.conversion.convert import convert_files
from tests.benchmarks.row import Row
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
            *_speed(Path(folder), quick=quick, packed="zlib"),
            *_speed(Path(folder), quick=quick, packed="lzma"),
            _memory(Path(folder), quick=quick),
        ]


def _speed(folder: Path, *, quick: bool, packed: str) -> list[Row]:
    """Compare with reading alone: on a file as uproot writes it, and on one packed as CMS packs NanoAOD.

    Both take their turn, many times, and what counts is the middle one of the ratios of neighbours: what
    else the machine does meets both alike. On two free cores the time is what matters; where all cores are
    busy with other things its ratio comes near that of processor time, which is given too.
    """
    n_events, repeats = (5_000, 1) if quick else (250_000, 15 if packed == "zlib" else 5)
    compression = uproot.ZLIB(1) if packed == "zlib" else uproot.LZMA(9)
    source = write_l1_nano(folder / f"{packed}.root", n_events, compression=compression)
    contract = find_contract(CONTRACT)
    branches = branches_of(contract)
    out = folder / "speed.npz"

    def read_alone() -> int:
        with _as_uproot_comes(), uproot.open({str(source): None}) as file:
            steps = file["Events"].iterate(filter_name=lambda name: name in branches, step_size=_ALONE)
            return sum(len(step) for step in steps)

    made = convert_files([source], contract, out)  # compiles, and fills the page cache
    if (made.provenance.events_kept, read_alone()) != (n_events, n_events):
        raise AssertionError("the conversion lost events")
    alone, conversion = [], []
    for _ in range(repeats):
        alone.append(_spent(read_alone))
        conversion.append(_spent(lambda: convert_files([source], contract, out)))
    rows = []
    for which, what in enumerate(("time", "processor time")):
        ours, theirs = [one[which] for one in conversion], [one[which] for one in alone]
        ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
        judged = not quick and packed == "zlib" and what == "time"
        rows.append(
            Row(
                name=f"convert, {what}, {n_events} events, {len(branches)} branches ({packed}) "
                f"to {contract.n_inputs} inputs",
                value=median(ours),
                unit="s",
                baseline="uproot.iterate of the same branches",
                baseline_value=median(theirs),
                ratio=ratio,
                target="<= 1.3x" if judged else None,
                met=ratio <= 1.3 if judged else None,
            )
        )
    return rows


@contextmanager
def _as_uproot_comes() -> Iterator[None]:
    """Unpack by zlib, as uproot does unless it is told otherwise."""
    unpacker = uproot.compression._decompress_ZLIB
    library, unpacker.library = unpacker.library, "zlib"
    try:
        yield
    finally:
        unpacker.library = library


def _spent(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of the clock and of all cores that one call takes."""
    begun, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begun, time.process_time() - used


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
