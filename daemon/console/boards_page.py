"""Boards: what each says of itself when it is asked, and what was done to it. Changes nothing on a board."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import quote

from nicegui import ui

from daemon.console.layout import Visit, badge, heading, link, table
from daemon.console.live import Live
from daemon.console.looks import Look
from daemon.console.wording import date_and_clock, short
from daemon.process.services import Services
from daemon.responses.scrubbing import LastScrub
from daemon.store import room_queries, views

_ANSWERS: Final = Look("ANSWERS", "check_circle", "good")
_SILENT: Final = Look("DOES NOT ANSWER", "cloud_off", "alarm")
_AT_ONCE: Final = 8
"""Boards asked side by side: one that does not answer takes seconds to say so."""


@dataclass(frozen=True)
class Board:
    """One board.

    Parameters
    ----------
    status
        What it said.
    asked_at
        When.
    last
        The last thing that was done to it.
    scrub
        The last look at its weights.
    interval_s
        Time between two looks; 0: nobody looks.
    """

    status: views.BoardStatus
    asked_at: datetime
    last: views.BoardOperationView | None
    scrub: LastScrub | None = None
    interval_s: float = 0.0


def look(services: Services) -> list[Board]:
    """Ask every board."""
    names = sorted(name for name, model in services.site.models.items() if model.has_firmware)
    last = room_queries.last_operations(services.engine, names)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="boards") as threads:
        return list(threads.map(lambda name: _ask(services, name, last.get(name)), names))


def _ask(services: Services, model: str, last: views.BoardOperationView | None) -> Board:
    status = services.board_status(model)
    interval_s = services.site.models[model].settings.firmware.scrub_interval_s
    return Board(status, services.clock(), last, services.last_scrub(model), interval_s)


async def build(visit: Visit, services: Services) -> None:
    """Fill the page of boards."""
    del visit
    heading("Boards")
    ui.label("Every board is asked every five seconds while this page is open.").classes("lw-muted")
    Live(lambda: look(services), _show, interval_s=5.0).start()
    with ui.element("section").classes("lw-panel").props('aria-label="What was done to the boards"'):
        heading("What was done to the boards", 2)
        await Live(
            lambda: room_queries.board_operations(services.engine), show_operations, interval_s=5.0
        ).refresh()


def _show(found: list[Board]) -> None:
    if not found:
        ui.label("No model of this site has firmware.").classes("lw-muted")
    for board in found:
        _board(board)


def _board(board: Board) -> None:
    status = board.status
    with ui.element("section").classes("lw-panel") as panel:
        with ui.element("div").classes("lw-row"):
            badge(_ANSWERS if status.reachable else _SILENT)
            heading(f"{status.model} at {status.address}", 2)
            if status.simulated:
                ui.label("EMULATED BOARD").classes("lw-mark")
        if status.error:
            ui.label(status.error).classes("lw-notice")
        if board.scrub is not None and board.scrub.wrong:
            ui.label(board.scrub.words).classes("lw-notice")
        if status.package_id:
            with ui.element("div").classes("lw-row"):
                ui.label("It runs package")
                link(short(status.package_id), f"/packages/{quote(status.package_id, safe='')}").classes(
                    "lw-mono"
                )
        table(("quantity", "value"), _facts(board))
    panel.props["aria-label"] = f"Board of {status.model}"


def _facts(board: Board) -> list[tuple[str, str]]:
    status, last = board.status, board.last
    rows = [("last check", date_and_clock(board.asked_at))]
    if status.reachable:
        counters = ", ".join(f"{name} {value:,}" for name, value in sorted(status.counters.items()))
        bank = "unknown" if status.active_bank is None else str(status.active_bank)
        rows += [
            ("shell (static part)", short(status.shell_hash)),
            ("partitions", partition_words(status.partition_hashes)),
            ("structure", short(status.structure_hash)),
            ("weights", short(status.weights_hash)),
            ("active bank", bank),
            ("counters", counters or "none"),
        ]
    rows.append(("last scrub", scrub_words(board.scrub, board.interval_s)))
    if last is None:
        return [*rows, ("last change", "none by this site")]
    return [
        *rows,
        ("last change", f"{date_and_clock(last.at)}: {last.plan_kind}, {last.outcome}"),
        ("dead time then", milliseconds(last.switch_s)),
        ("golden vectors then", golden_words(last)),
    ]


def partition_words(hashes: Sequence[str]) -> str:
    """Name the partitions with what each of them computes: ``p0 1a2b3c4d5e6f, p1 ...``."""
    return ", ".join(f"p{place} {short(one)}" for place, one in enumerate(hashes)) or "unknown"


def scrub_words(scrub: LastScrub | None, interval_s: float) -> str:
    """Say when the weights were last compared, what came of it, and how often that is done."""
    often = f"every {interval_s:g} s" if interval_s else "never by itself"
    if scrub is None:
        return f"not since the daemon started; {often}"
    return f"{date_and_clock(scrub.at)}: {scrub.words}; {often}"


def show_operations(found: list[views.BoardOperationView]) -> None:
    """Show what was done to boards as a table."""
    if not found:
        ui.label("Nothing so far.").classes("lw-muted")
        return
    table(
        ("time", "board", "plan", "from", "to", "outcome", "load", "dead time", "golden vectors", "by"),
        [
            (
                date_and_clock(one.at),
                f"{one.board} (emulated)" if one.simulated else one.board,
                one.plan_kind,
                short(one.from_package),
                short(one.to_package),
                f"{one.outcome}: {one.reason}" if one.reason else one.outcome,
                milliseconds(one.load_s),
                milliseconds(one.switch_s),
                golden_words(one),
                one.operator or "nobody named",
            )
            for one in found
        ],
    )


def milliseconds(time_s: float) -> str:
    """Write a short time: ``0.2 ms``."""
    return f"{1e3 * time_s:,.1f} ms"


def golden_words(one: views.BoardOperationView) -> str:
    """Say how the golden vectors came out."""
    return f"{one.golden_events - one.golden_mismatches} of {one.golden_events} agree"
