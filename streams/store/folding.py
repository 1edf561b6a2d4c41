"""Folding: takes the summaries of many batches of one model into their windows, in the caller's transaction.

A batch is written beside the window that holds it, in the same transaction: whatever comes again, whoever
dies meanwhile, it is there or it is not. However many summaries come at once, each window concerned is read
and written once. Knows no broker and no judgement, and begins no transaction.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from sqlalchemy import insert
from sqlmodel import Session, col, select

from streams.counting.codec import decode_summary, encode_summary
from streams.counting.summary import BatchId, Summary, merge_all
from streams.errors import MalformedMessage, SummaryError
from streams.store.records import BatchRow, ConditionsRow, SourceRow, WindowRow, WindowState

PARAMETERS_AT_ONCE: Final = 500
"""Sequences asked for in one statement: the oldest SQLite in use takes 999 parameters."""


class Place(NamedTuple):
    """A lumisection of a model: all its windows close together."""

    model: str
    run: int
    lumisection: int


class Outcome(StrEnum):
    """What can become of a summary.

    ``late``: its lumisection had been closed; its events are counted, and what was said is said again.
    ``refused``: it fits no window, its window takes no data any more, or its batch's sequence was used
    before for other events.
    """

    ADDED = "added"
    REPEATED = "repeated"
    LATE = "late"
    REFUSED = "refused"


@dataclass(frozen=True)
class Folded:
    """What became of a summary.

    Attributes
    ----------
    outcome
        See `Outcome`.
    reason
        Why it was refused; empty otherwise.
    """

    outcome: Outcome
    reason: str = ""


class _Item(NamedTuple):
    number: int
    batch: BatchId
    summary: Summary


def fold(session: Session, summaries: Mapping[int, Summary], now: datetime) -> dict[int, Folded]:
    """Add summaries to their windows, each unless its batch was added before.

    Parameters
    ----------
    session
        A write transaction of the model.
    summaries
        Of one model, by any number of the caller's; each of exactly one batch.
    now
        Aware UTC.

    Returns
    -------
    What became of each, by the same numbers.
    """
    results: dict[int, Folded] = {}
    places: dict[Place, list[_Item]] = defaultdict(list)
    for index, summary in summaries.items():
        if summary.batch is None:
            raise AssertionError("the caller checked that each names its batch")
        place = Place(summary.model, summary.run, summary.lumisection)
        places[place].append(_Item(index, summary.batch, summary))
    for place, items in sorted(places.items()):
        new = _new(session, place, items, results)
        if new:
            _fold_place(session, place, new, now, results)
    return results


def _new(session: Session, place: Place, items: Sequence[_Item], results: dict[int, Folded]) -> list[_Item]:
    """Return the items whose batches no window holds yet; say what becomes of the others."""
    known = _digests(session, place, items)
    new = []
    for item in items:
        name = item.batch[:2]
        counted = known.setdefault(name, None)
        if counted is None:
            known[name] = item.batch.digest
            new.append(item)
        elif counted == item.batch.digest:
            results[item.number] = Folded(Outcome.REPEATED)
        else:
            results[item.number] = Folded(
                Outcome.REFUSED,
                f"batch {item.batch.sequence} of '{item.batch.source:.40}' in LS {place.lumisection} of run "
                f"{place.run} was counted before with other content: number the batches of a lumisection "
                "without repetition",
            )
    return new


def _digests(session: Session, place: Place, items: Iterable[_Item]) -> dict[tuple[str, int], int | None]:
    """Return the digests of those batches of a lumisection that are stored, by source and sequence."""
    wanted: dict[str, set[int]] = defaultdict(set)
    for item in items:
        wanted[item.batch.source].add(item.batch.sequence)
    found: dict[tuple[str, int], int | None] = {}
    for source, sequences in wanted.items():
        ordered = sorted(sequences)
        for start in range(0, len(ordered), PARAMETERS_AT_ONCE):
            rows = session.exec(
                select(BatchRow.sequence, BatchRow.digest).where(
                    *_at(BatchRow, place),
                    BatchRow.source == source,
                    col(BatchRow.sequence).in_(ordered[start : start + PARAMETERS_AT_ONCE]),
                )
            )
            found |= {(source, sequence): digest for sequence, digest in rows}
    return found


def _fold_place(
    session: Session, place: Place, items: list[_Item], now: datetime, results: dict[int, Folded]
) -> None:
    windows = {row.package: row for row in session.exec(select(WindowRow).where(*_at(WindowRow, place)))}
    settled = _settled(session, place, windows.values())
    gone = [row for row in windows.values() if row.state in (WindowState.SEALED, WindowState.ARCHIVED)]
    if gone:
        reason = (
            f"LS {place.lumisection} of run {place.run} is sealed since its batches are not told apart any "
            f"longer: send data within the days that [stream] late_data_days says"
        )
        results |= {item.number: Folded(Outcome.REFUSED, reason) for item in items}
        return
    packages: dict[str, list[_Item]] = defaultdict(list)
    for item in items:
        packages[item.summary.package].append(item)
    counted: list[_Item] = []
    for package, parts in packages.items():
        window = windows.get(package) or _opened(place, parts[0].summary, now, session)
        added = _add(window, parts, now, results)
        late = window.state == WindowState.CLOSED or settled
        if late:
            window.late_events += sum(item.summary.n_events for item in added)
        session.add(window)
        session.flush()
        _store_batches(session, window, added)
        outcome = Folded(Outcome.LATE if late else Outcome.ADDED)
        results |= {item.number: outcome for item in added}
        counted += added
    _move_sources_on(session, place, {item.batch.source for item in counted}, now)


def _opened(place: Place, summary: Summary, now: datetime, session: Session) -> WindowRow:
    window = WindowRow(
        **place._asdict(),
        package=summary.package,
        contract_hash=summary.contract_hash,
        summary=b"",
        opened_at=now,
        updated_at=now,
    )
    session.add(window)
    return window


def _add(window: WindowRow, items: Sequence[_Item], now: datetime, results: dict[int, Folded]) -> list[_Item]:
    """Merge what fits into a window and return it; a window that fits nothing stays as it is."""
    fitting = []
    for item in items:
        if item.summary.contract_hash == window.contract_hash:
            fitting.append(item)
        else:
            results[item.number] = Folded(
                Outcome.REFUSED,
                f"package {window.package:.12} ran under contract {window.contract_hash:.12} in this "
                f"lumisection, not under {item.summary.contract_hash:.12}: give a new package a new identity",
            )
    parts = [replace(item.summary, batch=None) for item in fitting]
    try:
        if window.summary:
            parts.insert(0, decode_summary(window.summary))
        merged = merge_all(parts) if fitting else None
    except (MalformedMessage, SummaryError) as error:
        reason = f"the window cannot take this summary ({error}): it was stored by another lumiwatch"
        results |= {item.number: Folded(Outcome.REFUSED, reason) for item in fitting}
        return []
    if merged is not None:
        window.summary = encode_summary(merged)
        window.n_batches += len(fitting)
        window.n_events, window.n_accept = merged.n_events, merged.n_accept
        window.simulated = merged.simulated
        window.updated_at = now
    return fitting


def _store_batches(session: Session, window: WindowRow, items: Iterable[_Item]) -> None:
    rows = [
        {
            "model": window.model,
            "run": window.run,
            "lumisection": window.lumisection,
            **item.batch._asdict(),
            "n_events": item.summary.n_events,
            "window_id": window.id,
        }
        for item in items
    ]
    if rows:
        session.connection().execute(insert(BatchRow), rows)


def _move_sources_on(session: Session, place: Place, sources: set[str], now: datetime) -> None:
    if not sources:
        return
    known = session.exec(
        select(SourceRow).where(
            SourceRow.model == place.model, SourceRow.run == place.run, col(SourceRow.source).in_(sources)
        )
    )
    rows = {row.source: row for row in known}
    for source in sorted(sources):
        row = rows.get(source) or SourceRow(
            model=place.model, run=place.run, source=source, lumisection=place.lumisection, seen_at=now
        )
        row.lumisection = max(row.lumisection, place.lumisection)
        row.seen_at = now
        session.add(row)


def _settled(session: Session, place: Place, windows: Iterable[WindowRow]) -> bool:
    """Whether the lumisection was closed before, with windows or without, or a later one of its run."""
    if any(row.closed_at is not None for row in windows):
        return True
    row = session.get(ConditionsRow, place)
    if row is not None and row.settled:
        return True
    later = select(WindowRow.id).where(
        WindowRow.model == place.model,
        WindowRow.run == place.run,
        col(WindowRow.lumisection) > place.lumisection,
        col(WindowRow.closed_at).is_not(None),
    )
    return session.exec(later.limit(1)).first() is not None


def _at(table: type[BatchRow] | type[WindowRow], place: Place) -> tuple[bool, bool, bool]:
    return table.model == place.model, table.run == place.run, table.lumisection == place.lumisection
