"""A bench for people: rows of a table, one page of HTML that needs nothing else, one picture.

Refuses to know how a bench is run.
"""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path

from hw.archive import write_atomically
from hw.errors import HardwareError
from hw.report import BenchReport, StageReport
from hw.resources import Resources

COLUMNS = (
    "stage", "events", "different events", "different bits", "largest error (LSB)",
    "latency (cycles)", "interval (cycles)", "events/s", "",
)  # fmt: skip
"""Names of what `rows` gives."""

NARROW_COLUMNS = ("stage", "bits off", "LSB off", "cycles", "events/s")
"""Names of what `narrow_rows` gives."""

RESOURCE_COLUMNS = (
    "source", "tool", "LUTs", "registers", "DSPs", "block RAMs", "clock (MHz)", "latency", "interval", "note",
)  # fmt: skip
"""Names of what `resource_rows` gives."""

_AGREES, _DIFFERS, _INFORMS = "#3b6ea5", "#c8553d", "#9a9a9a"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
       color: #1d1d1f; background: #fff; }
@media (prefers-color-scheme: dark) { body { color: #eee; background: #17181a; } th { background: #26282b; } }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #8886; padding: .3rem .6rem; text-align: right; }
th:first-child, td:first-child, td.text { text-align: left; }
.passed, .failed { display: inline-block; padding: .2rem .7rem; border-radius: .3rem; color: #fff; }
.passed { background: #3b6ea5; } .failed { background: #c8553d; }
img { max-width: 100%; background: #fff; } code { overflow-wrap: anywhere; }
"""


def rows(report: BenchReport) -> list[tuple[str, ...]]:
    """Give one row of text per stage, in the order of `COLUMNS`."""
    return [_row(stage, oracle=place == 0) for place, stage in enumerate(report.stages)]


def narrow_rows(report: BenchReport) -> list[tuple[str, ...]]:
    """Give one row of text per stage that fits a terminal of 80 columns, in the order of `NARROW_COLUMNS`."""
    return [
        (
            stage.name,
            f"{stage.mismatching_bits:,}" if stage.binding else "for info",
            f"{stage.largest_error_lsb:.3g}",
            ""
            if stage.latency_cycles is None
            else f"{stage.latency_cycles} ({_number(stage.interval_cycles)})",
            f"{stage.events_per_s:,.0f}",
        )
        for stage in report.stages
    ]


def resource_rows(report: BenchReport) -> list[tuple[str, ...]]:
    """Give one row of text per entry of the resources, in the order of `RESOURCE_COLUMNS`."""
    return [_resources(one) for one in report.resources]


def write_page(report: BenchReport, path: Path) -> None:
    """Write a bench as one HTML file with the picture inside.

    Raises
    ------
    HardwareError
        When the file cannot be written.
    """
    picture = base64.b64encode(_picture(report, "svg")).decode()
    verdict = "every bit agrees" if report.passed else "bits differ: do not load this package"
    known = resource_rows(report)
    absent = "".join(f"<li>{escape(name)}: {escape(reason)}</li>" for name, reason in report.absent.items())
    content = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Bench of {escape(report.model_name)}</title>
<style>{_STYLE}</style></head><body>
<h1>Bench of {escape(report.model_name)}</h1>
<p><span class="{"passed" if report.passed else "failed"}">{verdict}</span></p>
<p>structure <code>{escape(report.structure_hash)}</code><br>
weights <code>{escape(report.weights_hash)}</code><br>
inputs <code>{escape(report.inputs_hash)}</code></p>
{_table(COLUMNS, rows(report))}
<p><img alt="events per second of every stage" src="data:image/svg+xml;base64,{picture}"></p>
<h2>Resources</h2>
{_table(RESOURCE_COLUMNS, known) if known else "<p>None known.</p>"}
{f"<h2>Not compared</h2><ul>{absent}</ul>" if absent else ""}
</body></html>
"""
    _write(path, content.encode())


def write_picture(report: BenchReport, path: Path) -> None:
    """Write a bench as a picture; the ending of the name decides the format (png, svg, pdf).

    Raises
    ------
    HardwareError
        When the format is unknown or the file cannot be written.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in ("png", "svg", "pdf"):
        raise HardwareError(
            f"a picture cannot be a {path.suffix or 'file without an ending'}: use .png or .svg"
        )
    _write(path, _picture(report, kind))


def _row(stage: StageReport, *, oracle: bool) -> tuple[str, ...]:
    return (
        stage.name,
        f"{stage.events:,}",
        f"{stage.mismatching_events:,}",
        f"{stage.mismatching_bits:,}" if stage.binding else "not counted",
        f"{stage.largest_error_lsb:.3g}",
        _number(stage.latency_cycles),
        _number(stage.interval_cycles),
        f"{stage.events_per_s:,.0f}",
        "oracle" if oracle else "must agree" if stage.binding else "for information",
    )


def _resources(one: Resources) -> tuple[str, ...]:
    counts = (one.luts, one.registers, one.dsps, one.brams)
    clock = "" if one.clock_mhz is None else f"{one.clock_mhz:.0f}"
    cycles = (_number(one.latency_cycles), _number(one.interval_cycles))
    return (one.source, one.tool, *map(_number, counts), clock, *cycles, one.note)


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _table(columns: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _picture(report: BenchReport, kind: str) -> bytes:
    # imported here: it takes a second, and a board or a build does not draw
    from matplotlib import rc_context  # noqa: PLC0415
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    stages = report.stages[::-1]
    figure = Figure(figsize=(9, 1.2 + 0.45 * len(stages)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = [
        _INFORMS if not stage.binding else _DIFFERS if stage.mismatching_bits else _AGREES for stage in stages
    ]
    bars = axes.barh(
        [stage.name for stage in stages], [stage.events_per_s for stage in stages], color=colours
    )
    labels = [
        f" {stage.mismatching_bits:,} bits differ"
        if stage.binding
        else f" up to {stage.largest_error_lsb:.3g} LSB"
        for stage in stages
    ]
    axes.bar_label(bars, labels)
    axes.set_xscale("log")
    axes.margins(x=0.25)
    axes.set_xlabel("events per second")
    axes.set_title(f"{report.model_name}: {report.stages[0].events:,} events", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    content = io.BytesIO()
    with rc_context({"svg.hashsalt": "lumiwatch"}):
        figure.savefig(content, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return content.getvalue()


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise HardwareError(f"{path} cannot be written ({error.strerror}): check the folder") from error
