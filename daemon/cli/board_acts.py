"""`lumiwatch hw apply`, `rollback`, `scrub`: work on a board by hand, done by the daemon in your name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from daemon.cli.incidents import path_part
from daemon.cli.output import (
    DEFAULT_SITE,
    JsonOption,
    ModelOption,
    SiteOption,
    err,
    out,
    print_json,
    print_record,
)
from daemon.client import Client, connect
from daemon.errors import CheckFailed, InvalidChoice
from daemon.responses.by_hand import Allowed, BoardPlan, Scrubbed
from daemon.site.keys import ensure_keys, site_trusted_keys
from daemon.site.settings import Site, load_site
from hw.apply import ApplyReport
from hw.package import open_package
from hw.plan import PlanKind
from hw.scrub import ScrubOutcome

_TIMEOUT_S = 600.0
_BAD = frozenset({ScrubOutcome.FLIPPED, ScrubOutcome.FAILED, ScrubOutcome.OTHER_PACKAGE})
WhyOption = Annotated[str, typer.Option("--why", help="Reason, for the record.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask: the plan is known.")]


def apply(
    package: Annotated[Path, typer.Argument(metavar="PACKAGE", help="Firmware package (.lwpkg).")],
    model: ModelOption,
    why: WhyOption,
    site: SiteOption = DEFAULT_SITE,
    allow: Annotated[Allowed, typer.Option(help="The most invasive plan that you allow.")] = "weights",
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a package run on a model's board: checked, loaded, proven by its golden vectors, or taken back."""
    loaded = load_site(site)
    identity = _at_site(loaded, package)
    with connect(loaded) as client:
        way = _plan(client, model, package=identity)
        _agree(way, model, allow=allow, yes=yes)
        body = {"package_id": identity, "planned_from": way.from_package, "allow": allow, "why": why}
        _report(_post(client, model, "apply", body), as_json=as_json)


def rollback(
    model: ModelOption,
    why: WhyOption,
    site: SiteOption = DEFAULT_SITE,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Bring back the package that ran on a model's board before the present one."""
    with connect(load_site(site)) as client:
        way = _plan(client, model)
        _agree(way, model, allow=None, yes=yes)
        body = {"planned_from": way.from_package, "why": why}
        _report(_post(client, model, "rollback", body), as_json=as_json)


def scrub(
    model: ModelOption,
    why: WhyOption,
    site: SiteOption = DEFAULT_SITE,
    repair: Annotated[bool, typer.Option(help="Put flipped bits right.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Compare the weights on a board with its package now; exit code 1 if they are left wrong."""
    with connect(load_site(site)) as client:
        found = Scrubbed.model_validate(_post(client, model, "scrub", {"repair": repair, "why": why}))
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        out.print(f"board at {found.report.board}: {found.report.outcome.value}: {found.report.reason}")
        for word in found.report.flipped:
            bits = ", ".join(map(str, word.bits))
            out.print(f"  {word.segment}\\[{word.offset}] (word {word.index}): bit {bits}")
        if found.incident is not None:
            out.print(f"incident {found.incident}")
    if found.report.outcome in _BAD:
        raise CheckFailed(f"the board of {model}: {found.report.reason}")


def _at_site(site: Site, file: Path) -> str:
    """Verify a package and put it where the daemon finds it; returns its id."""
    ensure_keys(site)
    package = open_package(file, site_trusted_keys(site))
    target = site.packages_dir / f"{package.id}.lwpkg"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(".part")
        shutil.copyfile(file, temporary)
        temporary.replace(target)
    return package.id


def _plan(client: Client, model: str, **query: str) -> BoardPlan:
    return BoardPlan.model_validate(client.get(f"/models/{path_part(model)}/board/plan", **query))


def _post(client: Client, model: str, act: str, body: dict[str, Any]) -> Any:
    return client.post(f"/models/{path_part(model)}/board/{act}", body, timeout_s=_TIMEOUT_S)


def _agree(way: BoardPlan, model: str, *, allow: Allowed | None, yes: bool) -> None:
    """Say the plan on standard error, and ask for it unless it was agreed to before."""
    print_record(
        f"plan for the board of {model} at {way.board}: {way.kind.value}",
        {
            "from": way.from_package[:12],
            "to": way.to_package[:12],
            "why so": way.reason,
            "to the board": f"{way.transfer_bytes:,} bytes",
            "dead time": f"{1e3 * way.dead_time_s:,.3g} ms ({way.dead_time_source})",
            "lost": way.lost,
        },
        console=err,
    )
    if allow is not None and way.kind in {"partial", "full"} and not PlanKind(allow).covers(way.kind):
        raise InvalidChoice(f"the plan is {way.kind.value}: allow it with --allow {way.kind.value}")
    if yes:
        return
    try:
        answer = typer.prompt(f"Type {model} to go on", default="", show_default=False, err=True)
    except typer.Abort:  # nobody types here
        answer = ""
    if answer.strip() != model:
        raise InvalidChoice("not confirmed, the board was not touched: type the model's name, or give --yes")


def _report(answer: Any, *, as_json: bool) -> None:
    report = ApplyReport.model_validate(answer)
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        out.print(
            f"{report.outcome.replace('_', ' ')}: package {report.to_package[:12]} on the board at "
            f"{report.board}: {report.reason}; {report.loaded_words:,} words loaded, dead time "
            f"{1e3 * report.switch_s:,.1f} ms",
            soft_wrap=True,
            markup=False,
        )
    if not report.ok:
        raise CheckFailed(f"the package is not on the board: {report.reason}")
