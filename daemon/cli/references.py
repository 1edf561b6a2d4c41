"""`lumiwatch reference`: build, propose, show, compare, list, approve and retire expectations."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from daemon.errors import NotPossibleNow, SettingsError
from daemon.site.keys import site_trusted_keys
from daemon.site.settings import Site, SiteModel, load_site
from daemon.store import room_queries
from daemon.store.database import open_database
from daemon.store.queries import firmware_model, site_model
from hw.package import open_package
from streams.judging.budget import describe_budget, parse_budget
from streams.judging.reference_header import in_words
from streams.judging.reference_store import find_reference, load_reference

if TYPE_CHECKING:
    from daemon.references.choice import Choice, RankedRun
    from daemon.references.recorded import Chosen
    from streams.judging.detectable import Detectable
    from streams.judging.reference import Reference
    from streams.judging.reference_header import ReferenceHeader

app = typer.Typer(no_args_is_help=True, help="References: build, propose, compare, approve, retire.")
ReferenceArgument = Annotated[str, typer.Argument(metavar="REFERENCE", help="Id or its first characters.")]
BudgetOption = Annotated[
    str | None,
    typer.Option(help="False alarms: 1/1000LS, 2/day, or a probability. Without: the model's own."),
]
_MOST = 12
"""Rows that a comparison shows of each table."""


@app.command("build")
def build(
    model: ModelOption,
    dataset: Annotated[Path | None, typer.Argument(help="Dataset (NPZ) to draw lumisections from.")] = None,
    run: Annotated[
        list[str] | None,
        typer.Option(help="Instead of a dataset: a recorded run, 355100 or 355100:20-400; repeatable."),
    ] = None,
    package: Annotated[
        Path | None, typer.Option(help="With a dataset: firmware package (.lwpkg) that scores its events.")
    ] = None,
    site: SiteOption = DEFAULT_SITE,
    budget: BudgetOption = None,
    lumisections: Annotated[int, typer.Option(help="How many are drawn from a dataset.", min=1)] = 60,
    events: Annotated[int, typer.Option(help="Events in each of them.", min=1)] = 10_000,
    pileup: Annotated[float, typer.Option(help="Pileup that they stand for.", min=0)] = 50.0,
    seed: Annotated[int, typer.Option(help="Decides which events are drawn.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Build a reference from recorded runs, or from a dataset, and propose it for approval."""
    from daemon.references.commissioning import Commissioning, Resampling, load_dataset

    wanted = None if budget is None else parse_budget(budget)
    loaded = load_site(site)
    if (dataset is None) == (not run):
        raise SettingsError("a reference is built from a dataset or from recorded runs: give one, or --run")
    if run:
        _build_recorded(loaded, site_model(loaded, model), run, wanted, as_json=as_json)
        return
    if dataset is None or package is None:
        raise SettingsError("events of a dataset need the firmware that scores them: give --package")
    watched = firmware_model(loaded, model)
    resampling = Resampling(lumisections, events, pileup, seed)
    with progress("reference") as report:
        reference = Commissioning(loaded).reference(
            watched,
            load_dataset(dataset, watched.contract),
            open_package(package, site_trusted_keys(loaded)),
            resampling,
            report,
            budget=wanted,
        )
    _say_proposed(reference, watched, as_json=as_json)


@app.command()
def propose(
    model: Annotated[str, typer.Argument(help="Monitored model.")],
    run: Annotated[int | None, typer.Option(help="For this run; without: for the latest.", min=0)] = None,
    build_it: Annotated[
        bool, typer.Option("--build", help="Build a reference from the best ones and propose it.")
    ] = False,
    budget: BudgetOption = None,
    site: SiteOption = DEFAULT_SITE,
    as_json: JsonOption = False,
) -> None:
    """Rank the recorded runs as a reference for a run, with the reason for every exclusion."""
    from daemon.references.choice import choose_reference_runs

    wanted = None if budget is None else parse_budget(budget)
    loaded = load_site(site)
    watched = site_model(loaded, model)
    choice = choose_reference_runs(open_database(loaded.database_url), watched, datetime.now(UTC), run=run)
    if build_it:
        runs = [str(one.facts.run) for one in choice.best]
        if not runs:
            raise NotPossibleNow(
                f"no recorded run suits run {choice.target.run}: "
                f"see why by `lumiwatch reference propose {model} --run {choice.target.run}`"
            )
        if not as_json:
            _say_choice(choice)
        _build_recorded(loaded, watched, runs, wanted, as_json=as_json)
    elif as_json:
        print_json(_choice_document(choice))
    else:
        _say_choice(choice)


@app.command()
def show(reference: ReferenceArgument, site: SiteOption = DEFAULT_SITE, as_json: JsonOption = False) -> None:
    """Show what a reference covers, how it was calibrated, and every effect it lets be noticed."""
    loaded = load_site(site)
    row = find_reference(open_database(loaded.database_url), reference)
    found = load_reference(open_database(loaded.database_url), row.id)
    watched = site_model(loaded, found.model)
    effects = _effects(found, watched)
    if as_json:
        print_json(_document(found, effects) | {"state": row.state})
        return
    header, calibration = found.header, found.header.calibration
    fields = {
        "model": header.model,
        "state": row.state,
        "package": header.package[:12],
        "built from": header.built_from,
        "runs": ", ".join(map(str, header.runs)),
        "lumisections": f"{header.n_lumisections} of {calibration.n_events:.0f} events",
        "covers": header.coverage_in_words,
        "matched": "; ".join(f"{name} {', '.join(map(str, seen))}" for name, seen in header.matched.items())
        or "pileup alone",
        "held out": f"{calibration.n_lumisections} lumisections in {calibration.n_folds} parts",
        "pileup error": f"{calibration.pileup_error:.2%}",
        "false alarms": describe_budget(header.budget),
    }
    print_record(f"reference {found.id}", fields)
    _say_slices(header)
    _say_effects("detectable effects", effects, found)


@app.command()
def compare(
    first: ReferenceArgument,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="Id or its first characters.")],
    site: SiteOption = DEFAULT_SITE,
    as_json: JsonOption = False,
) -> None:
    """Say how another reference differs from one, at the conditions that both cover."""
    from streams.judging.comparison import compare as compare_references

    loaded = load_site(site)
    engine = open_database(loaded.database_url)
    one, two = load_reference(engine, first), load_reference(engine, other)
    found = compare_references(one, two, site_model(loaded, one.model).contract)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    out.print(found.verdict)
    from streams.judging.detectable import describe_size

    channels = [
        (
            each.name,
            f"{'-' if each.effect < 0 else '+'}{describe_size(abs(each.effect), each.unit)}",
            f"{each.deviations:+.1f}",
            describe_size(each.detectable, each.unit),
            f"{each.pileup:.1f}",
            *([] if each.value is None else [f"{each.value:.6g}"]),
        )
        for each in found.channels[:_MOST]
    ]
    inputs = [
        (
            each.name,
            f"{each.ks_distance:.4f}",
            f"{each.p_value:.2g}",
            f"{each.mean_shift:+.3g} {each.unit}".strip(),
            f"{each.pileup:.1f}",
            *([] if each.value is None else [f"{each.value:.6g}"]),
        )
        for each in found.inputs[:_MOST]
    ]
    followed = one.header.interpolated or two.header.interpolated
    at = ("pileup", in_words(followed)) if followed else ("pileup",)
    print_table("channels", ("channel", "effect", "errors", "noticed from", *at), channels)
    print_table("inputs", ("input", "KS distance", "p-value", "shift of the mean", *at), inputs)


@app.command("list")
def list_all(
    site: SiteOption = DEFAULT_SITE,
    model: Annotated[str | None, typer.Option(help="Only of this model.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List references, newest first."""
    loaded = load_site(site)
    found = room_queries.references(open_database(loaded.database_url), model)
    if model is not None and not found:
        site_model(loaded, model)  # none yet, or no such model?
    if as_json:
        print_json([reference.model_dump(mode="json") for reference in found])
        return
    rows = [(r.id[:12], r.model, r.package[:12], r.state, r.approved_by, r.built_from) for r in found]
    print_table("references", ("id", "model", "package", "state", "approved by", "built from"), rows)


def _build_recorded(
    site: Site, model: SiteModel, runs: Sequence[str], budget: float | None, *, as_json: bool
) -> None:
    from daemon.operations import utc_now
    from daemon.references.recorded import parse_run_range, propose_recorded_reference

    ranges = [parse_run_range(text) for text in runs]
    reference, chosen = propose_recorded_reference(
        open_database(site.database_url), model, ranges, utc_now, budget=budget
    )
    _say_proposed(reference, model, chosen, as_json=as_json)


def _say_proposed(
    reference: Reference, model: SiteModel, chosen: Chosen | None = None, *, as_json: bool
) -> None:
    from daemon.references.recorded import describe_left_out
    from streams.judging.detectable import most_useful

    effects = _effects(reference, model)
    if as_json:
        left_out = {} if chosen is None else {"left_out": dict(chosen.left_out)}
        print_json(_document(reference, effects) | left_out)
        return
    out.print(f"reference {reference.id} proposed: `lumiwatch reference approve {reference.id[:12]}`")
    if chosen is not None:
        out.print(f"built from {len(chosen.windows)} windows; left out: {describe_left_out(chosen.left_out)}")
    out.print(f"false alarms: {describe_budget(reference.header.budget)}")
    _say_effects("most useful detectable effects", most_useful(effects), reference)


def _effects(reference: Reference, model: SiteModel) -> tuple[Detectable, ...]:
    from streams.judging.detectable import detectable_effects

    return detectable_effects(
        reference,
        model.contract,
        n_events=round(reference.header.calibration.n_events),
        pileup=reference.header.typical_pileup,
        rate_band=model.settings.watch.rate_band,
    )


def _say_effects(title: str, effects: Sequence[Detectable], reference: Reference) -> None:
    from streams.judging.detectable import N_WINDOWS, describe_size

    rows = [
        (
            one.name,
            describe_size(one.at_once, one.unit),
            describe_size(one.in_ten, one.unit) if one.kind == "channel" else "",
            describe_size(one.gain, "") if one.gain is not None else "",
        )
        for one in effects
    ]
    header = reference.header
    at = f"windows of {header.calibration.n_events:.0f} events at pileup {header.typical_pileup:.1f}"
    if header.typical_value is not None:
        at += f" and {in_words(header.interpolated)} {header.typical_value:.6g}"
    columns = ("what", "in 1 window", f"in {N_WINDOWS} windows", "as a gain")
    print_table(f"{title}, {at}", columns, rows)


def _say_slices(header: ReferenceHeader) -> None:
    rows = [(f"{one.pileup:.1f}", one.n_lumisections) for one in header.slices]
    if not header.strata:
        print_table("slices", ("pileup", "lumisections"), rows)
        return
    values = [f"{one.value:.6g}" for one in header.strata for _ in range(one.n_slices)]
    columns = (in_words(header.interpolated), "pileup", "lumisections")
    print_table("slices", columns, [(value, *row) for value, row in zip(values, rows, strict=True)])


def _document(reference: Reference, effects: Sequence[Detectable]) -> dict[str, Any]:
    header = reference.header
    return {
        "id": reference.id,
        **header.model_dump(mode="json"),
        "false_alarms_per_day": header.false_alarms_per_day,
        "detectable": {
            "pileup": header.typical_pileup,
            **({} if header.typical_value is None else {"second_value": header.typical_value}),
            "n_events": round(header.calibration.n_events),
            "effects": [one.model_dump(mode="json") for one in effects],
        },
    }


def _say_choice(choice: Choice) -> None:
    chosen = {one.facts.run for one in choice.best}
    rows = [
        (
            one.facts.run,
            f"{one.facts.last_at:%Y-%m-%d}",
            one.facts.n_lumisections,
            "" if one.facts.pileup is None else f"{one.facts.pileup:.1f}",
            "" if one.ratio is None else f"{one.ratio:.2f}",
            "; ".join(one.excluded) or ("best" if one.facts.run in chosen else "suits"),
        )
        for one in choice.ranking
    ]
    columns = ("run", "last seen", "lumisections", "pileup", "ratio", "says")
    print_table(f"runs as a reference for run {choice.target.run}", columns, rows)
    if choice.too_few_to_hold_out:
        out.print("fewer than three runs suit: what wanders from fill to fill would not be calibrated")
    if choice.uncovered:
        out.print(choice.uncovered)


def _choice_document(choice: Choice) -> dict[str, Any]:
    chosen = {one.facts.run for one in choice.best}

    def entry(one: RankedRun) -> dict[str, Any]:
        return {
            "run": one.facts.run,
            "lumisections": one.facts.n_lumisections,
            "events": one.facts.n_events,
            "pileup": one.facts.pileup,
            "luminosity_hz_cm2": one.facts.luminosity_hz_cm2,
            "last_at": one.facts.last_at.isoformat(),
            "ratio": one.ratio,
            "ratio_of": one.ratio_of,
            "excluded": list(one.excluded),
            "best": one.facts.run in chosen,
        }

    return {"run": choice.target.run, "ranking": [entry(one) for one in choice.ranking]}
