"""`lumiwatch backtest`: false alarms, detections and delays, before a budget is chosen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from daemon.cli.output import (
    DEFAULT_SITE,
    JsonOption,
    ProgressCallback,
    SiteOption,
    out,
    print_json,
    print_table,
    progress,
)
from daemon.errors import CheckFailed
from daemon.site.settings import Site, SiteModel, load_site
from daemon.store.database import open_database
from daemon.store.queries import firmware_model, site_model
from streams.backtest.report import Detection, Report
from streams.effects.effect import parse_effect
from streams.errors import BacktestError
from streams.events.batch import MAX_BATCH_EVENTS
from streams.judging.assessment import Assessment
from streams.judging.budget import parse_budget
from streams.judging.reference_header import LUMISECTIONS_PER_DAY

_FACTORS = (1.0, 10.0, 3.0, 1 / 3, 0.1)
"""What is looked at beside one budget."""


@dataclass(frozen=True)
class _Asked:
    """What a person asked for."""

    dataset: Path | None
    run: int | None
    reference: str | None
    package: Path | None
    effects: list[str] | None
    budgets: list[str] | None
    fills: int
    fill_length: int
    lumisections: int
    repetitions: int
    horizon: int
    events: int
    pileup: float
    conditions: list[str]
    seed: int
    processes: int


def backtest(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Monitored model.")],
    site: SiteOption = DEFAULT_SITE,
    generated: Annotated[
        bool, typer.Option("--generated", help="Judge generated lumisections (the default).")
    ] = False,
    dataset: Annotated[Path | None, typer.Option(help="Judge events drawn from a dataset (NPZ).")] = None,
    run: Annotated[int | None, typer.Option(help="Judge the recorded windows of a run again.", min=0)] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="Id of a reference, or its first characters; without, one is learnt for this."),
    ] = None,
    package: Annotated[
        Path | None, typer.Option(help="Firmware package (.lwpkg) that scores the dataset's events.")
    ] = None,
    effect: Annotated[
        list[str] | None,
        typer.Option(help="What happens to the detector; lumisections count from the onset. Repeatable."),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(help="1/1000LS, 2/day or 0.001; the first one counts. Repeatable, for the ROC."),
    ] = None,
    repetitions: Annotated[int, typer.Option(help="Of each effect.", min=1, max=10_000)] = 20,
    lumisections: Annotated[int, typer.Option(help="In control.", min=1, max=1_000_000)] = 1000,
    events: Annotated[
        int, typer.Option(help="Events in each lumisection.", min=1, max=MAX_BATCH_EVENTS)
    ] = 20_000,
    horizon: Annotated[
        int, typer.Option(help="Lumisections from the onset on in which an effect is to be found.", min=1)
    ] = 40,
    fills: Annotated[int, typer.Option(help="Fills to learn a reference from.", min=1)] = 4,
    fill_length: Annotated[int, typer.Option(help="Lumisections of a fill.", min=16)] = 600,
    pileup: Annotated[float, typer.Option(help="Pileup that a dataset stands for.", min=0, max=1000)] = 50.0,
    condition: Annotated[
        list[str] | None,
        typer.Option(
            help="Fills have these values of a second condition in turn, for example bunches=1200 and "
            "bunches=2400, and a learnt reference follows it. Repeatable."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.", min=0)] = 1,
    processes: Annotated[
        int | None, typer.Option(help="Share the work among so many; the result is the same.", min=1)
    ] = None,
    as_json: JsonOption = False,
    page: Annotated[Path | None, typer.Option(help="Write a page (HTML) to read and to keep.")] = None,
) -> None:
    """Judge lumisections at full speed: how often in vain, what is found, how soon, under which budget.

    Exit code 1: there are significantly more false alarms than the first budget allows.
    """
    if generated + (dataset is not None) + (run is not None) > 1:
        raise BacktestError("--generated, --dataset and --run exclude each other: choose one")
    if page is not None and not page.absolute().parent.is_dir():
        raise BacktestError(f"{page}: its folder does not exist: make it, or choose another place")
    loaded = load_site(site)
    asked = _Asked(
        dataset=dataset,
        run=run,
        reference=reference,
        package=package,
        effects=effect,
        budgets=budget,
        fills=fills,
        fill_length=fill_length,
        lumisections=lumisections,
        repetitions=repetitions,
        horizon=horizon,
        events=events,
        pileup=pileup,
        conditions=condition or [],
        seed=seed,
        processes=processes or len(os.sched_getaffinity(0)),
    )
    with progress("backtest") as report_progress:
        report = _done(loaded, site_model(loaded, model), asked, report_progress)
    if page is not None:
        from daemon.backtest.page import backtest_page
        from hw.archive import write_atomically

        write_atomically(page, backtest_page(report).encode())
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        _print(report)
    if not report.passed:
        raise CheckFailed(
            f"{report.false_alarms[0].episodes} alarms are more than the budget allows: "
            + ("look at what was wrong in this run, " if report.recorded else "")
            + "choose a larger budget, or build the reference from more fills"
        )


def _done(site: Site, model: SiteModel, asked: _Asked, report: ProgressCallback) -> Report:
    if asked.run is not None:
        return _recorded(site, model, asked, asked.run, report)
    from daemon.backtest.run import Drawing, dataset_source, stored_reference
    from daemon.references.judgement import assessment_settings
    from streams.backtest.generator import BUNCHES
    from streams.backtest.run import Plan
    from streams.backtest.run import backtest as run_backtest
    from streams.backtest.source import DatasetSource, GeneratedSource
    from streams.backtest.trial import default_effects

    model = firmware_model(site, model.name)
    engine = None if asked.reference is None else open_database(site.database_url)
    given = None if engine is None else stored_reference(engine, model, asked.reference or "")
    source: DatasetSource | GeneratedSource
    bunches = _bunches(asked, learnt=given is None)
    if asked.dataset is not None:
        package = asked.package or (None if given is None else given.package)
        drawing = Drawing(asked.events, asked.fill_length, asked.pileup, asked.seed)
        source = dataset_source(site, engine, model, asked.dataset, package, drawing)
    elif asked.package is not None:
        raise BacktestError("generated events have a score of their own: give --package with --dataset only")
    else:
        source = GeneratedSource(
            model.contract,
            model.name,
            asked.seed,
            n_events=asked.events,
            lumisections_per_fill=asked.fill_length,
            bunches=bunches,
        )
    own = model.settings.watch.false_alarm_budget if given is None else given.header.budget
    effects = asked.effects
    plan = Plan(
        budgets=_budgets(asked.budgets, own),
        effects=default_effects(model.contract)
        if effects is None
        else tuple(parse_effect(text) for text in effects),
        fills=asked.fills,
        lumisections=asked.lumisections,
        repetitions=asked.repetitions,
        horizon=asked.horizon,
        interpolate=BUNCHES if bunches else None,
    )
    settings = assessment_settings(site, model)
    return run_backtest(source, plan, settings, reference=given, processes=asked.processes, progress=report)


def _recorded(site: Site, model: SiteModel, asked: _Asked, run: int, report: ProgressCallback) -> Report:
    from daemon.backtest.run import (
        recorded_assessments,
        recorded_length,
        recorded_reference,
        stored_reference,
    )
    from daemon.references.judgement import assessment_settings
    from streams.backtest.run import backtest_recorded

    if asked.effects:
        raise BacktestError(
            "an effect cannot be applied to recorded counts: leave --effect out, or give --dataset"
        )
    if asked.package is not None:
        raise BacktestError("recorded windows are scored already: give --package with --dataset only")
    if asked.conditions:
        raise BacktestError("recorded windows have conditions of their own: leave --condition out")
    engine = open_database(site.database_url)
    if asked.reference is None:
        reference = recorded_reference(engine, model, run)
    else:
        reference = stored_reference(engine, model, asked.reference)
    kept, gone = recorded_length(engine, model.name, run)
    words = f"recorded windows of run {run}" + (f"; of {gone} more the counts are gone" if gone else "")
    windows = recorded_assessments(engine, model, run, reference, assessment_settings(site, model))

    def watched() -> Iterator[Assessment]:
        for number, assessment in enumerate(windows, start=1):
            yield assessment
            report(number / kept, f"LS {assessment.lumisection}")

    return backtest_recorded(watched(), reference, _budgets(asked.budgets, reference.header.budget), words)


def _bunches(asked: _Asked, *, learnt: bool) -> tuple[float, ...]:
    """Return the numbers of colliding bunches that generated fills have in turn; none: as usual, not told."""
    from streams.backtest.generator import BUNCHES
    from streams.events.replay import parse_values

    told = [parse_values([text]) for text in asked.conditions]
    if told and asked.dataset is not None:
        raise BacktestError("events of a dataset follow no condition: leave --condition out")
    strange = next((name for one in told for name in one if name != BUNCHES), None)
    if strange is not None:
        raise BacktestError(
            f"generated events do not follow '{strange}': give {BUNCHES}, for example {BUNCHES}=2400"
        )
    values = tuple(one[BUNCHES] for one in told)
    if learnt and asked.fills < len(values):
        raise BacktestError(
            f"{asked.fills} fills cannot have {len(values)} values of {BUNCHES}: raise --fills"
        )
    return values


def _budgets(texts: list[str] | None, own: float) -> tuple[float, ...]:
    """Return the budgets to look at: those given, or one and its neighbours."""
    given = [parse_budget(text) for text in texts or []] or [own]
    if len(given) == 1:
        given = [given[0] * factor for factor in _FACTORS]
    return tuple(dict.fromkeys(budget for budget in given if budget < 1))


def _print(report: Report) -> None:
    out.print(report.headline)
    order = sorted(range(len(report.budgets)), key=lambda index: -report.budgets[index])
    alarms = "alarms" if report.recorded else "false alarms"
    rows = [
        (
            _budget(one.budget),
            f"{one.budget * LUMISECTIONS_PER_DAY:.2g}",
            f"{one.episodes} in {one.lumisections} LS",
            f"{one.per_1000:.2g} ({one.interval[0]:.2g} to {one.interval[1]:.2g})",
            one.warnings,
        )
        for one in (report.false_alarms[index] for index in order)
    ]
    print_table(f"{alarms} by budget", ("budget", "a day", alarms, "per 1000 LS (95 %)", "warnings"), rows)
    if report.effects:
        _print_effects(report, order)
    if report.alarms:
        what = [(one.run, one.lumisection, one.reason) for one in report.alarms]
        print_table(f"{alarms} under {_budget(report.budgets[0])}", ("run", "LS", "what"), what)
    covered = report.coverage
    out.print(
        f"{covered.lumisections} lumisections: {covered.judged} judged, {covered.insufficient} with too few "
        f"events, {covered.not_judged} not judged"
    )
    for reason, number in covered.reasons:
        out.print(f"  {number} times, for example: {reason}")
    out.print(f"{report.source}; reference {report.reference_id[:12]}")


def _print_effects(report: Report, order: list[int]) -> None:
    first = [(one.effect, one.detections[0]) for one in report.effects]
    rows = [
        (
            effect,
            f"{one.detected} of {one.repetitions} ({one.interval[0]:.0%} to {one.interval[1]:.0%})",
            f"{_delay(one.median_delay)} ({_delay(one.late_delay)})",
            ", ".join(name for name, _ in one.channels[:2]),
        )
        for effect, one in first
    ]
    columns = ("effect", "found (95 %)", "median delay (90 %)", "channels")
    print_table(f"effects under {_budget(report.budgets[0])}, delays in LS", columns, rows)
    table = [(one.effect, *(_short(one.detections[index]) for index in order)) for one in report.effects]
    budgets = [_budget(report.budgets[index]) for index in order]
    print_table("found, and median delay in LS, by budget", ("effect", *budgets), table)


def _budget(budget: float) -> str:
    return f"1/{1 / budget:.0f}LS"


def _short(one: Detection) -> str:
    return f"{one.probability:.0%}, {_delay(one.median_delay)}"


def _delay(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
