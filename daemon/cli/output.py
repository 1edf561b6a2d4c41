"""What commands print: people get tables and progress bars, programs get JSON with `--json`.

Results go to standard output, everything else to standard error, so that `--json` output can be piped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
SiteOption = Annotated[
    Path,
    typer.Option(
        "--site", envvar="LUMIWATCH_SITE", help="Site folder (holds lumiwatch.toml).", show_default=True
    ),
]
ModelOption = Annotated[str, typer.Option("--model", help="Monitored model.")]
DEFAULT_SITE = Path()


class ProgressCallback(Protocol):
    """How long work reports: a fraction between 0 and 1 and a few words."""

    def __call__(self, fraction: float, message: str = "") -> None:
        """Report progress."""


def print_json(value: Any) -> None:
    """Print one JSON document to standard output."""
    typer.echo(json.dumps(value, indent=2, default=str))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows under column names; an empty table says so."""
    if not rows:
        out.print(f"{title}: none")
        return
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    out.print(table)


def print_record(title: str, fields: Mapping[str, Any], *, console: Console = out) -> None:
    """Print one thing as aligned `name  value` lines under its title."""
    console.print(f"[bold]{title}[/bold]")
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        console.print(f"  {name:<{width}}  {value}")


@contextmanager
def progress(title: str, *, console: Console = err) -> Iterator[ProgressCallback]:
    """Show a progress bar while the body runs; the body reports through the callback it is given.

    A body that fails takes its bar with it: what is left to read is the error, in one line. Where nobody
    watches (a file, a pipe), only the finished bar is printed.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    bars = Progress(*columns, console=console, disable=not console.is_terminal)
    task = bars.add_task(title, total=1.0, note="")

    def report(fraction: float, message: str = "") -> None:
        bars.update(task, completed=fraction, note=escape(message))

    with bars:
        try:
            yield report
        except BaseException:
            bars.live.transient = True
            raise
        bars.update(task, completed=1.0)
    if bars.disable:
        console.print(bars.get_renderable())
