"""One firmware package: what it is, how it was proven bit by bit, and on which board it ran.

Opens the file only with a trusted signature, and shows what the manifest says.
"""

from dataclasses import dataclass
from urllib.parse import quote

from nicegui import run, ui
from sqlmodel import Session

from daemon.console.boards_page import show_operations
from daemon.console.layout import Visit, badge, heading, link, table
from daemon.console.looks import PROVEN, UNPROVEN
from daemon.console.wording import date_and_clock, short
from daemon.errors import DaemonError, NotFound
from daemon.process.services import Services
from daemon.responses.board_work import package_path
from daemon.site.keys import site_trusted_keys
from daemon.store import room_queries, views
from hw import bench_page
from hw.errors import HardwareError
from hw.package import Package, open_package
from hw.records import PackageRecord
from hw.report import BenchReport


@dataclass(frozen=True)
class Found:
    """What is known of a package.

    Parameters
    ----------
    record
        In the database.
    package
        Its file, or why it cannot be read.
    benches
        Of responses, oldest first.
    operations
        On boards, newest first.
    """

    record: PackageRecord
    package: Package | str
    benches: tuple[views.BenchView, ...]
    operations: tuple[views.BoardOperationView, ...]


def find(services: Services, package_id: str) -> Found:
    """Read everything.

    Raises
    ------
    NotFound
        The site does not know it.
    """
    with Session(services.engine) as session:
        record = session.get(PackageRecord, package_id)
    if record is None:
        raise NotFound(f"no package {short(package_id)!r} at this site; the page of packages lists them")
    package: Package | str
    try:
        path = package_path(services.engine, services.site, package_id)
        package = open_package(path, site_trusted_keys(services.site))
    except (DaemonError, HardwareError, OSError) as error:
        package = f"Its file cannot be read: {error}"
    return Found(
        record,
        package,
        tuple(room_queries.benches(services.engine, package_id)),
        tuple(room_queries.board_operations(services.engine, package_id=package_id)),
    )


async def build(visit: Visit, services: Services, package_id: str) -> None:
    """Fill the page of one package.

    Raises
    ------
    NotFound
        The site does not know it.
    """
    del visit
    found = await run.io_bound(find, services, package_id)
    if found is None:  # the daemon is stopping
        return
    record = found.record
    with ui.element("div").classes("lw-row"):
        heading(f"Package {short(record.id)}")
        badge(PROVEN if record.bench_passed else UNPROVEN)
        link(f"Model {record.name}", f"/models/{record.name}")
        link("Lineage", f"/lineage?id={quote(record.id)}")
    ui.label(record.id).classes("lw-mono")
    with ui.element("section").classes("lw-panel"):
        heading("What it is", 2)
        if isinstance(found.package, str):
            ui.label(found.package).classes("lw-notice")
        table(("quantity", "value"), _facts(found))
    with ui.element("section").classes("lw-panel"):
        heading("Benches: bits that differ from the emulator", 2)
        _benches(found)
    with ui.element("section").classes("lw-panel"):
        heading("What was done with it on boards", 2)
        show_operations(list(found.operations))


def _facts(found: Found) -> list[tuple[str, str]]:
    record = found.record
    rows = [
        ("version", record.version),
        ("toolchain", f"{record.toolchain} {record.toolchain_version}"),
        ("structure", record.structure_hash),
        ("weights", record.weights_hash),
        ("contract", record.contract_hash),
        ("made from", short(record.parent_id) if record.parent_id else "no other package"),
        ("training", short(record.training_id) if record.training_id else "none here"),
        ("known since", date_and_clock(record.recorded_at)),
    ]
    if isinstance(found.package, str):
        return rows
    manifest = found.package.manifest
    words = ", ".join(f"{one.name} ({one.words} words, {one.format})" for one in manifest.segments)
    return [
        *rows,
        ("signed with", found.package.signed_by),
        ("precision", ", ".join(f"{name} {value}" for name, value in sorted(manifest.precision.items()))),
        ("weight memory", words),
        ("constants", ", ".join(manifest.constants) or "none"),
        ("partitions", ", ".join(f"{p.name} ({', '.join(p.layers)})" for p in manifest.partitions)),
        ("static part", manifest.shell_hash),
        ("golden vectors", f"{manifest.golden_count:,}"),
        ("size", f"{len(found.package.content):,} bytes"),
    ]


def _benches(found: Found) -> None:
    shown = False
    if not isinstance(found.package, str) and found.package.manifest.bench is not None:
        ui.label("In the package, signed with it:").classes("lw-step-title")
        bench_table(found.package.manifest.bench)
        shown = True
    for one in found.benches:
        when = f", {date_and_clock(one.at)}" if one.at is not None else ""
        ui.label(f"{one.title}{when}").classes("lw-step-title")
        bench_table(one.report)
        shown = True
    if not shown:
        ui.label("None is known.").classes("lw-muted")


def bench_table(report: BenchReport) -> None:
    """Show a bench: one row per way of computing the scores."""
    badge(PROVEN if report.passed else UNPROVEN)
    table(bench_page.COLUMNS, bench_page.rows(report))
    for name, reason in report.absent.items():
        ui.label(f"not compared: {name}: {reason}").classes("lw-muted")
    if report.resources:
        table(bench_page.RESOURCE_COLUMNS, bench_page.resource_rows(report))
