"""Firmware packages, the boards they run on, and the references that judge them."""

from dataclasses import dataclass

from nicegui import ui
from sqlmodel import Session, col, select

from daemon import room_queries, views
from daemon.console.layout import Visit, badge, heading, link, table
from daemon.console.live import Live
from daemon.console.looks import Look
from daemon.console.wording import date_and_clock, short
from daemon.services import Services
from hw.records import BoardOperationRecord

_ANSWERS = Look("ANSWERS", "check_circle", "good")
_PROVEN = Look("PROVEN", "check_circle", "good")
_UNPROVEN = Look("NOT PROVEN", "error", "alarm")
_OPERATIONS = 20
_SILENT = Look("DOES NOT ANSWER", "cloud_off", "alarm")


@dataclass(frozen=True)
class _Shown:
    packages: tuple[views.PackageView, ...]
    references: tuple[views.ReferenceView, ...]
    operations: tuple[tuple[str, ...], ...]


async def build(visit: Visit, services: Services) -> None:
    """Fill the page of packages and boards."""
    del visit
    heading("Packages and boards")
    with ui.element("section").classes("lw-panel"):
        heading("Boards", 2)
        ui.label("Every board is asked every five seconds.").classes("lw-muted")
        Live(lambda: _boards(services), _show_boards, interval_s=5.0).start()
    await Live(lambda: _read(services), _show, interval_s=5.0).refresh()


def _boards(services: Services) -> list[views.BoardStatus]:
    models = sorted(services.site.models.items())
    return [services.board_status(name) for name, model in models if model.has_firmware]


def _read(services: Services) -> _Shown:
    return _Shown(
        packages=tuple(room_queries.packages(services.engine)),
        references=tuple(room_queries.references(services.engine)),
        operations=_operations(services),
    )


def _operations(services: Services) -> tuple[tuple[str, ...], ...]:
    latest = select(BoardOperationRecord).order_by(col(BoardOperationRecord.id).desc()).limit(_OPERATIONS)
    with Session(services.engine) as session:
        return tuple(
            (
                date_and_clock(one.done_at),
                f"{one.board} (emulated)" if one.simulated else one.board,
                one.plan_kind,
                short(one.from_package),
                short(one.to_package),
                f"{one.outcome}: {one.reason}" if one.reason else one.outcome,
                f"{one.golden_events - one.golden_mismatches} of {one.golden_events} agree",
                one.operator or "nobody named",
            )
            for one in session.exec(latest).all()
        )


def _show_boards(found: list[views.BoardStatus]) -> None:
    for board in found:
        with ui.element("div").classes("lw-row"):
            badge(_ANSWERS if board.reachable else _SILENT)
            ui.label(f"{board.model} at {board.address}").classes("lw-step-title")
            if board.package_id:
                ui.label("runs package")
                link(short(board.package_id), f"/lineage?id={board.package_id}")
        if board.error:
            ui.label(board.error).classes("lw-notice")
        if board.reachable:
            counters = ", ".join(f"{name} {value:,}" for name, value in sorted(board.counters.items()))
            rows = [
                ("structure", short(board.structure_hash)),
                ("weights", short(board.weights_hash)),
                ("active bank", "unknown" if board.active_bank is None else str(board.active_bank)),
                ("counters", counters or "none"),
            ]
            table(("quantity", "value"), rows)


def _package(package: views.PackageView) -> None:
    with ui.element("div").classes("lw-row").style("padding:6px 0;border-bottom:1px solid var(--line)"):
        badge(_PROVEN if package.bench_passed else _UNPROVEN)
        link(short(package.id), f"/lineage?id={package.id}").classes("lw-mono")
        ui.label(f"{package.name} {package.version}").classes("lw-step-title")
        ui.label(
            f"{package.toolchain} {package.toolchain_version}, structure {short(package.structure_hash)}, "
            f"weights {short(package.weights_hash)}, made {date_and_clock(package.recorded_at)}"
        ).classes("lw-muted")


def _show(found: _Shown) -> None:
    with ui.element("section").classes("lw-panel"):
        heading("Firmware packages", 2)
        if not found.packages:
            ui.label("No package is known yet. The command lumiwatch hw build makes one.").classes("lw-muted")
        for package in found.packages:
            _package(package)
    with ui.element("section").classes("lw-panel"):
        heading("What was done to the boards", 2)
        if not found.operations:
            ui.label("Nothing so far.").classes("lw-muted")
        else:
            table(
                ("time", "board", "plan", "from", "to", "outcome", "golden vectors", "by"), found.operations
            )
    with ui.element("section").classes("lw-panel"):
        heading("References", 2)
        if not found.references:
            ui.label("No reference yet. The command lumiwatch reference build makes one.").classes("lw-muted")
        else:
            table(
                ("reference", "model", "package", "state", "approved by", "approved", "built from"),
                [
                    (
                        short(one.id),
                        one.model,
                        short(one.package),
                        one.state,
                        one.approved_by or "nobody",
                        date_and_clock(one.approved_at),
                        one.built_from,
                    )
                    for one in found.references
                ],
            )
