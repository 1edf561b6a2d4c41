"""Windows: counts every batch exactly once, closes lumisections in order, assesses late data again.

A summary and the identity of the batch it counts are written in one transaction, so a batch that is
delivered or sent again changes nothing, and a kill at any moment loses nothing. Data time places events;
wall time, handed in as ``now``, only decides how long to wait (`streams.store.closing`). Knows no broker.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Engine, update
from sqlmodel import Session, col, select

from streams.conditions import Conditions
from streams.counting.layout import layout_of
from streams.counting.summary import Summary
from streams.errors import MalformedMessage
from streams.events.batch import MAX_BATCH_EVENTS
from streams.judging.judge import Judge, MonitoredModel
from streams.judging.verdict import Verdict
from streams.store.closing import (
    Waiting,
    all_arrived,
    open_windows,
    passed,
    pending,
    readiness,
    stored_conditions,
    unsettled,
)
from streams.store.database import read_session, write_session
from streams.store.folding import Folded, Outcome, Place, fold
from streams.store.records import AssessmentRow, ConditionsRow, WindowRow, WindowState

__all__ = ["Folded", "Outcome", "Place", "Waiting", "WindowStore"]


class WindowStore:
    """The windows of a site's models.

    Parameters
    ----------
    engine
        From `streams.store.database.open_engine`, with this package's tables.
    models
        The monitored models by name; others are refused.
    waiting
        How long windows wait for what is missing.
    """

    def __init__(
        self, engine: Engine, *, models: Mapping[str, MonitoredModel], waiting: Waiting | None = None
    ) -> None:
        self._engine = engine
        self._models = models
        self._waiting = waiting or Waiting()
        self._judge = Judge(models)
        self._begun: datetime | None = None
        self._first_message: datetime | None = None

    def fold_summaries(self, summaries: Sequence[Summary], now: datetime) -> list[Folded]:
        """Add the summaries of batches to their windows, each unless it was added before.

        All of one model are stored in one transaction; when this returns, all are. The more come at once, the
        less each costs: a window is read and written once, and a commit waits for the disk.

        Parameters
        ----------
        summaries
            Each of exactly one batch, with that batch's identity.
        now
            Aware UTC.

        Returns
        -------
        What became of each, in order.
        """
        self._note_message(now)
        results: dict[int, Folded] = {}
        by_model: dict[str, dict[int, Summary]] = defaultdict(dict)
        for index, summary in enumerate(summaries):
            reason = self._reason_to_refuse(summary)
            if reason:
                results[index] = Folded(Outcome.REFUSED, reason)
            else:
                by_model[summary.model][index] = summary
        for model, items in by_model.items():
            with write_session(self._engine, lock=model) as session:
                results |= fold(session, items, now)
        return [results[index] for index in range(len(summaries))]

    def record_conditions(
        self, conditions: Conditions, now: datetime, sent_at: datetime | None = None
    ) -> None:
        """Keep the conditions of a lumisection; once its end is known, only another end replaces them.

        Parameters
        ----------
        sent_at
            When the message was sent, if that is known: a backlog does not make it younger.

        Raises
        ------
        MalformedMessage
            The model is unknown.
        """
        if conditions.model not in self._models:
            raise MalformedMessage(
                f"conditions of unknown model '{conditions.model:.40}': add it to the site"
            )
        self._note_message(now)
        key = Place(conditions.model, conditions.run, conditions.lumisection)
        with write_session(self._engine, lock=conditions.model) as session:
            row = session.get(ConditionsRow, key)
            if row is None:
                row = ConditionsRow(**key._asdict(), document="", updated_at=now)
            elif row.ended_at is not None and not conditions.end_of_lumisection:
                return
            row.document = conditions.model_dump_json()
            row.updated_at = now
            if conditions.end_of_lumisection and row.ended_at is None:
                row.ended_at, row.announced_at = now, sent_at
            session.add(row)

    def close_ready(self, model: str, run: int, now: datetime) -> list[Verdict]:
        """Close and judge, in the order of lumisections, the windows of a run that need not wait any longer.

        Which those are says `streams.store.closing`.

        Returns
        -------
        list of Verdict
            One for each window closed now; stored, to be published.
        """
        if model not in self._models:
            return []
        self._begun = self._begun or now
        verdicts: list[Verdict] = []
        closed_any = True
        while closed_any:
            closed_any = False
            with read_session(self._engine) as session:
                places, last = pending(session, model, run), passed(session, model, run)
            for place in places:
                with read_session(self._engine) as session:
                    ready = self._readiness(session, place, now)
                if ready is not None:
                    verdicts += self._close(place, now)
                    closed_any = True
                elif place.lumisection > last:
                    break
        return verdicts

    def sweep(self, now: datetime) -> list[Verdict]:
        """Close whatever is complete or waited long enough, and assess again what got late data.

        To be called at start and every second or so.
        """
        open_runs = select(WindowRow.model, WindowRow.run).where(WindowRow.state == WindowState.OPEN)
        ended_runs = select(ConditionsRow.model, ConditionsRow.run).where(*unsettled())
        with read_session(self._engine) as session:
            runs = {*session.exec(open_runs.distinct()).all(), *session.exec(ended_runs.distinct()).all()}
        verdicts = [verdict for model, run in sorted(runs) for verdict in self.close_ready(model, run, now)]
        for model in self._models:
            verdicts += self._reassess_late(model, now)
        return verdicts

    def unpublished(self, limit: int = 100) -> list[Verdict]:
        """Return stored verdicts that are not known to be on the verdicts topic, the oldest first."""
        with read_session(self._engine) as session:
            rows = session.exec(
                select(AssessmentRow.verdict)
                .where(
                    col(AssessmentRow.published).is_(False), col(AssessmentRow.model).in_(list(self._models))
                )
                .order_by(col(AssessmentRow.id))
                .limit(limit)
            ).all()
        return [Verdict.model_validate_json(row) for row in rows]

    def mark_published(self, verdicts: Sequence[Verdict]) -> None:
        """Remember that these verdicts are on the verdicts topic."""
        names = [verdict.id for verdict in verdicts]
        with write_session(self._engine, lock="streams.published") as session:
            session.connection().execute(
                update(AssessmentRow).where(col(AssessmentRow.verdict_id).in_(names)).values(published=True)
            )

    def _note_message(self, now: datetime) -> None:
        self._begun = self._begun or now
        self._first_message = self._first_message or now

    def _reason_to_refuse(self, summary: Summary) -> str:
        model = self._models.get(summary.model)
        if model is None:
            return f"summary of unknown model '{summary.model:.40}': add it to the site"
        if summary.contract_hash != model.contract.hash or summary.layout != layout_of(model.contract):
            return (
                f"summary under contract {summary.contract_hash[:12]}, this worker has "
                f"{model.contract.hash[:12]}: update one of them"
            )
        if summary.batch is None:
            return "summary names no batch: say which source and sequence it counts"
        if summary.n_events > MAX_BATCH_EVENTS and not summary.layout.own_totals:
            return f"summary of {summary.n_events} events, a batch holds {MAX_BATCH_EVENTS} at most: split it"
        return ""

    def _readiness(self, session: Session, place: Place, now: datetime) -> bool | None:
        return readiness(session, place, now, self._waiting, self._first_message or self._begun or now)

    def _close(self, place: Place, now: datetime) -> list[Verdict]:
        with self._judging(place.model) as session:
            # asked again under the lock: another worker may have closed it, or data may have come
            complete = self._readiness(session, place, now)
            if complete is None:
                return []
            windows = open_windows(session, place)
            for window in windows:
                window.state = WindowState.CLOSED
                window.closed_at = now
                window.complete = complete
            row = session.get(ConditionsRow, place)
            if row is not None and row.ended_at is not None:
                row.settled = True
                session.add(row)
            conditions = stored_conditions(session, place)
            return self._judge.judge(session, [(window, conditions) for window in windows], now)

    def _reassess_late(self, model: str, now: datetime) -> list[Verdict]:
        """Assess again the closed windows whose late data is complete, or has come to an end for now."""
        unassessed = (
            WindowRow.model == model,
            WindowRow.state == WindowState.CLOSED,
            col(WindowRow.assessed_events) < col(WindowRow.n_events),
        )
        with read_session(self._engine) as session:
            if session.exec(select(WindowRow.id).where(*unassessed).limit(1)).first() is None:
                return []
        in_order = (col(WindowRow.run), col(WindowRow.lumisection), col(WindowRow.id))
        with self._judging(model) as session:
            items = []
            for window in session.exec(select(WindowRow).where(*unassessed).order_by(*in_order)).all():
                place = Place(window.model, window.run, window.lumisection)
                complete = all_arrived(session, place)
                if complete or now >= window.updated_at + self._waiting.lateness:
                    window.complete = complete
                    items.append((window, stored_conditions(session, place)))
            return self._judge.judge(session, items, now)

    @contextmanager
    def _judging(self, model: str) -> Iterator[Session]:
        """Write transaction in which windows of a model are judged; the judge forgets what is not stored."""
        try:
            with write_session(self._engine, lock=model) as session:
                yield session
        except BaseException:
            self._judge.forget(model)
            raise
