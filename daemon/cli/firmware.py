"""`lumiwatch train` and `lumiwatch hw`: first firmware of a model, benches, plans, boards."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from daemon.cli.output import (
    DEFAULT_SITE,
    JsonOption,
    ModelOption,
    SiteOption,
    out,
    print_json,
    print_record,
    print_table,
    progress,
)
from daemon.errors import CheckFailed
from daemon.responses.board_work import board_address
from daemon.site.keys import ensure_keys, site_trusted_keys
from daemon.site.settings import load_site
from daemon.store.queries import firmware_model
from hw import bench_page
from hw import plan as plans
from hw.boards.ipbus import IPbusBoard
from hw.job import BenchSpec
from hw.package import image_sizes, open_package

app = typer.Typer(no_args_is_help=True, help="Firmware packages and boards.")
PackageArgument = Annotated[Path, typer.Argument(metavar="PACKAGE", help="Firmware package (.lwpkg).")]


def train(
    datasets: Annotated[list[Path], typer.Argument(metavar="DATASET...", help="Datasets (NPZ).")],
    model: ModelOption,
    site: SiteOption = DEFAULT_SITE,
    seed: Annotated[int, typer.Option(help="Of everything random.", min=0)] = 1,
    accept_rate: Annotated[
        float, typer.Option(help="Fraction of events to accept.", min=0.0001, max=0.49)
    ] = 0.08,
    as_json: JsonOption = False,
) -> None:
    """Train the first version of a model; `lumiwatch hw build` makes firmware of it."""
    from daemon.references.commissioning import Commissioning
    from retrain.train_settings import TrainSettings

    loaded = load_site(site)
    settings = TrainSettings(seed=seed, target_accept_rate=accept_rate)
    with progress("train") as report:
        result = Commissioning(loaded).train(firmware_model(loaded, model), datasets, settings, report)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        out.print(f"training {result.training_id} in {result.seconds:.1f} s: {result.model.path}")


@app.command()
def build(
    model: ModelOption,
    site: SiteOption = DEFAULT_SITE,
    events: Annotated[Path | None, typer.Option(help="Dataset whose events become golden vectors.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Build, bench and sign a package of the latest training of a model."""
    from daemon.references.commissioning import Commissioning

    loaded = load_site(site)
    commissioning = Commissioning(loaded)
    with progress("build") as report:
        package, result = commissioning.build(
            firmware_model(loaded, model), commissioning.latest_training(model), events, report
        )
    if as_json:
        print_json({"path": str(result.package), **result.model_dump(mode="json")})
    else:
        out.print(f"package {package.id}\n{result.package}")


@app.command()
def show(package: PackageArgument, site: SiteOption = DEFAULT_SITE, as_json: JsonOption = False) -> None:
    """Verify a package against the site's trusted keys and say what is in it."""
    loaded = load_site(site)
    ensure_keys(loaded)
    opened = open_package(package, site_trusted_keys(loaded))
    manifest = opened.manifest
    if as_json:
        print_json({"id": opened.id, **manifest.model_dump(mode="json")})
        return
    print_record(
        f"package {opened.id}",
        {
            "model": f"{manifest.name}, version {manifest.version}",
            "toolchain": f"{manifest.toolchain.name} {manifest.toolchain.version}",
            "structure": manifest.structure_hash[:12],
            "weights": manifest.weights_hash[:12],
            "signature": "good",
            "trained": manifest.lineage.training or "unknown",
            "replaces": manifest.lineage.parent_package or "nothing",
        },
    )


@app.command()
def bench(
    package: PackageArgument,
    site: SiteOption = DEFAULT_SITE,
    board: Annotated[str | None, typer.Option(help="host:port of a board that runs the package.")] = None,
    toolchain: Annotated[
        list[str] | None, typer.Option(help="Build the same model with this one too; may be repeated.")
    ] = None,
    torch: Annotated[bool, typer.Option(help="Evaluate it in torch too, with and without its grid.")] = True,
    recorded: Annotated[Path | None, typer.Option(help="Recorded int16 events (.npy).")] = None,
    events: Annotated[int, typer.Option(help="How many.", min=1, max=1_000_000)] = 20_000,
    page: Annotated[Path | None, typer.Option(help="Write the result as a page (.html).")] = None,
    picture: Annotated[Path | None, typer.Option(help="Write the result as a picture (.png, .svg).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare emulator, images, torch and, if named, the board bit by bit; exit code 1 if any bit differs."""
    from daemon.references.commissioning import Commissioning

    loaded = load_site(site)
    ensure_keys(loaded)
    spec = BenchSpec(
        package=package,
        trusted_keys=loaded.trusted_keys_dir,
        board=board,
        toolchains=tuple(toolchain or ()),
        torch=torch,
        inputs=recorded,
        events=events,
    )
    with progress("bench") as report:
        result = Commissioning(loaded).bench(spec, report)
    if page is not None:
        bench_page.write_page(result.bench, page)
    if picture is not None:
        bench_page.write_picture(result.bench, picture)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        count = result.bench.stages[0].events
        title = f"bench of {result.package_id[:12]}, {count:,} events"
        print_table(title, bench_page.NARROW_COLUMNS, bench_page.narrow_rows(result.bench))
        for name, reason in result.bench.absent.items():
            out.print(f"not compared: {name}: {reason}")
    if not result.passed:
        raise CheckFailed("the bench did not pass: do not load this package")


@app.command()
def plan(
    current: PackageArgument,
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The package to go to.")],
    site: SiteOption = DEFAULT_SITE,
    as_json: JsonOption = False,
) -> None:
    """Say the least invasive way from one package to another."""
    loaded = load_site(site)
    ensure_keys(loaded)
    keys = site_trusted_keys(loaded)
    target = open_package(new, keys)
    found = plans.plan(open_package(current, keys).model, target.model, image_bytes=image_sizes(target))
    facts = {name: str(value) for name, value in asdict(found).items()}
    if as_json:
        print_json(facts)
    else:
        print_record(f"plan: {found.kind.value}", facts)


@app.command()
def board(model: ModelOption, site: SiteOption = DEFAULT_SITE, as_json: JsonOption = False) -> None:
    """Ask a model's board what it runs."""
    loaded = load_site(site)
    with closing(IPbusBoard(board_address(loaded, firmware_model(loaded, model).name))) as found:
        identity = found.identify()
    facts = asdict(identity)
    if as_json:
        print_json(facts)
    else:
        print_record(f"board at {identity.address}", facts)
