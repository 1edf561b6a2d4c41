"""Firmware packages that the site knows, and the references that judge them."""

from dataclasses import dataclass
from urllib.parse import quote

from nicegui import ui

from daemon.console.layout import Visit, badge, heading, link, table
from daemon.console.live import Live
from daemon.console.looks import PROVEN, UNPROVEN
from daemon.console.wording import date_and_clock, short
from daemon.process.services import Services
from daemon.store import room_queries, views


@dataclass(frozen=True)
class _Shown:
    packages: tuple[views.PackageView, ...]
    references: tuple[views.ReferenceView, ...]


async def build(visit: Visit, services: Services) -> None:
    """Fill the page of packages."""
    del visit
    heading("Packages")
    await Live(lambda: _read(services), _show, interval_s=5.0).refresh()


def _read(services: Services) -> _Shown:
    return _Shown(
        packages=tuple(room_queries.packages(services.engine)),
        references=tuple(room_queries.references(services.engine)),
    )


def _package(package: views.PackageView) -> None:
    with ui.element("div").classes("lw-row").style("padding:6px 0;border-bottom:1px solid var(--line)"):
        badge(PROVEN if package.bench_passed else UNPROVEN)
        link(short(package.id), f"/packages/{quote(package.id, safe='')}").classes("lw-mono")
        ui.label(f"{package.name} {package.version}").classes("lw-step-title")
        ui.label(
            f"{package.toolchain} {package.toolchain_version}, structure {short(package.structure_hash)}, "
            f"weights {short(package.weights_hash)}, made {date_and_clock(package.recorded_at)}"
        ).classes("lw-muted")
        link("Lineage", f"/lineage?id={quote(package.id)}")


def _show(found: _Shown) -> None:
    with ui.element("section").classes("lw-panel"):
        heading("Firmware packages", 2)
        if not found.packages:
            ui.label("No package is known yet. The command lumiwatch hw build makes one.").classes("lw-muted")
        for package in found.packages:
            _package(package)
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
