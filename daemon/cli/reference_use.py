"""`lumiwatch reference approve` and `retire`, by somebody who shows a token; no daemon need run."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daemon.access.control import AccessControl
from daemon.access.roles import Act
from daemon.cli.output import DEFAULT_SITE, SiteOption, out
from daemon.cli.references import ReferenceArgument
from daemon.client import TOKEN_VARIABLE, token_at_hand
from daemon.errors import NotPermitted
from daemon.journal.happenings import record_event
from daemon.site.settings import Site, load_site
from daemon.store.database import open_database, transaction
from daemon.store.queries import site_model
from streams.judging.reference_store import approve_reference, find_reference, retire_reference

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from streams.store.records import ReferenceRow

TokenFileOption = Annotated[
    Path | None,
    typer.Option(
        help=f"File with your token; without it, the one that {TOKEN_VARIABLE} names, or that of `local`."
    ),
]


def approve(
    reference: ReferenceArgument, site: SiteOption = DEFAULT_SITE, token_file: TokenFileOption = None
) -> None:
    """Put a reference in use."""
    engine, row, operator = _judged_by(load_site(site), reference, token_file)
    approve_reference(engine, row.id, operator, datetime.now(UTC))
    _record(
        engine, row, "reference.approved", f"{operator} put the reference {row.id[:12]} in use.", operator
    )
    out.print(f"reference {row.id[:12]} of {row.model} is in use")


def retire(
    reference: ReferenceArgument, site: SiteOption = DEFAULT_SITE, token_file: TokenFileOption = None
) -> None:
    """Take a reference out of use."""
    engine, row, operator = _judged_by(load_site(site), reference, token_file)
    retire_reference(engine, row.id, operator, datetime.now(UTC))
    _record(engine, row, "reference.retired", f"{operator} retired the reference {row.id[:12]}.", operator)
    out.print(f"reference {row.id[:12]} of {row.model} is retired")


def _judged_by(site: Site, reference: str, token_file: Path | None) -> tuple[Engine, ReferenceRow, str]:
    """Find a reference, and the person whose token is at hand, who may approve and retire it."""
    from daemon.operations import utc_now

    engine = open_database(site.database_url)
    access = AccessControl(engine, site, utc_now)
    operator = access.person_of_token(token_at_hand(site, token_file)).name
    access.check(operator, Act.JUDGE_REFERENCES)
    row = find_reference(engine, reference)
    approvers = site_model(site, row.model).policy.approvers
    if operator not in approvers:
        raise NotPermitted(
            f"{operator!r} may not approve for {row.model}: approvers are {', '.join(approvers)}"
        )
    return engine, row, operator


def _record(engine: Engine, row: ReferenceRow, kind: str, text: str, operator: str) -> None:
    with transaction(engine) as session:
        record_event(
            session,
            kind,
            text,
            now=datetime.now(UTC),
            actor=operator,
            model=row.model,
            detail={"reference": row.id},
        )
