"""The newest rows of each of many models, in one statement however many models there are.

Every model's part is answered from an index and bounded. Knows no views and no meaning of the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Select, desc, select, union_all
from sqlalchemy.engine import Row
from sqlmodel import Session, col

from daemon.store.records import IncidentRecord, VerdictRecord

MOST_AT_ONCE: Final = 400
"""Models in one statement: SQLite takes 500 parts at most."""


def newest_verdicts(session: Session, models: Sequence[str], *columns: Any, limit: int) -> Iterator[Row[Any]]:
    """Give the latest `limit` verdicts of each model, newest first.

    Parameters
    ----------
    columns
        Of `VerdictRecord`, after `model`, `run`, `lumisection` and `received_at`, which every row has.
    """
    order = (VerdictRecord.run, VerdictRecord.lumisection, VerdictRecord.received_at)
    keys: list[Any] = [col(key) for key in (VerdictRecord.model, *order)]
    query = select(*keys, *columns).order_by(*(key.desc() for key in keys[1:])).limit(limit)
    yield from _each(session, query, keys, models)


def newest_incidents(session: Session, models: Sequence[str], *columns: Any) -> Iterator[Row[Any]]:
    """Give the latest incident of each model that has one.

    Parameters
    ----------
    columns
        Of `IncidentRecord`, after `model`, `opened_at` and `number`, which every row has.
    """
    keys: list[Any] = [col(IncidentRecord.model), col(IncidentRecord.opened_at), col(IncidentRecord.number)]
    query = select(*keys, *columns).order_by(*(key.desc() for key in keys[1:])).limit(1)
    yield from _each(session, query, keys, models)


def _each(
    session: Session, query: Select[*tuple[Any, ...]], keys: Sequence[Any], models: Sequence[str]
) -> Iterator[Row[Any]]:
    for first in range(0, len(models), MOST_AT_ONCE):
        parts = [query.where(keys[0] == name).subquery() for name in models[first : first + MOST_AT_ONCE]]
        everything = union_all(*(select(part) for part in parts))
        yield from session.execute(everything.order_by(keys[0].key, *(desc(key.key) for key in keys[1:])))
