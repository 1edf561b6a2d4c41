"""Firmware packages, the boards they run on, and the references that judge them."""

from dataclasses import dataclass

from nicegui import ui

from daemon import room_queries, views
from daemon.console.layout import Visit, badge, heading, link, table
from daemon.console.live import Live
from daemon.console.looks import Look
from daemon.console.wording import date_and_clock, short
from daemon.services import Services

_ANSWERS = Look("ANSWERS", "check_circle", "good")
_SILENT = Look("DOES NOT ANSWER", "cloud_off", "alarm")


@dataclass(frozen=True)
class _Shown:
    packages: tuple[views.PackageView, ...]
    references: tuple[views.ReferenceView, ...]
    running: tuple[tuple[str, str], ...]


async def build(visit: Visit, services: Services) -> None:
    """Fill the page of packages and boards."""
    del visit
    heading("Packages and boards")
    with ui.element("section").classes("lw-panel"):
        heading("Boards", 2)
        await Live(lambda: _boards(services), _show_boards, interval_s=5.0).refresh()
    await Live(lambda: _read(services), _show, interval_s=5.0).refresh()


def _boards(services: Services) -> list[views.BoardStatus]:
    return [services.board_status(model) for model in sorted(services.site.models)]


def _read(services: Services) -> _Shown:
    found = room_queries.packages(services.engine)
    return _Shown(
        packages=tuple(found),
        references=tuple(room_queries.references(services.engine)),
        running=tuple((package.id, package.name) for package in found),
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


def _show(found: _Shown) -> None:
    with ui.element("section").classes("lw-panel"):
        heading("Firmware packages", 2)
        if not found.packages:
            ui.label("No package is known yet. The command lumiwatch hw build makes one.").classes("lw-muted")
        for package in found.packages:
            with ui.element("div").classes("lw-row"):
                link(short(package.id), f"/lineage?id={package.id}").classes("lw-mono")
                ui.label(package.name).classes("lw-step-title")
                ui.label(
                    f"{package.state}, structure {short(package.structure_hash)}, "
                    f"weights {short(package.weights_hash)}, contract {short(package.contract_hash)}"
                ).classes("lw-muted")
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
