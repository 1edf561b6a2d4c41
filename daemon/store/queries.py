"""Reading what the daemon knows: plain functions over the database, used by API, console and alerts.

Every function opens one short read session on the engine handed in and returns views. Changes
nothing, knows no web framework.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy.engine import Engine
from sqlmodel import Session, SQLModel, col, func, or_, select

from daemon.errors import NotFound, SettingsError
from daemon.responses.decisions import waits_for
from daemon.site.settings import Site, SiteModel
from daemon.store import views
from daemon.store.latest import newest_verdicts
from daemon.store.records import (
    FINAL_RESPONSE_STATES,
    UNRESOLVED,
    DecisionRecord,
    EventRecord,
    IncidentEventRecord,
    IncidentRecord,
    IncidentState,
    NotificationRecord,
    ResponseRecord,
    ResponseState,
    ResponseStepRecord,
    VerdictRecord,
)

_View = TypeVar("_View", bound=views.View)


def model_statuses(engine: Engine, site: Site) -> list[views.ModelStatus]:
    """Status of every monitored model, by name."""
    return _model_statuses(engine, [model for _, model in sorted(site.models.items())])


def model_status(engine: Engine, site: Site, model: str) -> views.ModelStatus:
    """Status of one model.

    Raises
    ------
    NotFound
        The site does not watch this model.
    """
    return _model_statuses(engine, [site_model(site, model)])[0]


def verdict_timeline(
    engine: Engine,
    model: str,
    *,
    run: int | None = None,
    first_lumisection: int | None = None,
    limit: int = 500,
) -> list[views.VerdictView]:
    """Give the latest `limit` verdicts of a model, oldest first (ordered by run, lumisection, arrival)."""
    query = select(VerdictRecord).where(VerdictRecord.model == model)
    if run is not None:
        query = query.where(VerdictRecord.run == run)
    if first_lumisection is not None:
        query = query.where(VerdictRecord.lumisection >= first_lumisection)
    query = query.order_by(
        col(VerdictRecord.run).desc(),
        col(VerdictRecord.lumisection).desc(),
        col(VerdictRecord.received_at).desc(),
    ).limit(limit)
    with Session(engine) as session:
        return [_verdict(record) for record in reversed(session.exec(query).all())]


def runs(engine: Engine, model: str, *, limit: int = 50) -> list[int]:
    """Give the latest runs of which a model has verdicts, newest first."""
    query = select(VerdictRecord.run).where(VerdictRecord.model == model).distinct()
    with Session(engine) as session:
        return list(session.exec(query.order_by(col(VerdictRecord.run).desc()).limit(limit)).all())


def verdicts_at(engine: Engine, model: str, run: int, lumisection: int) -> list[views.VerdictView]:
    """Give the verdicts on one lumisection, oldest first: several after late data or with new firmware."""
    query = (
        select(VerdictRecord)
        .where(
            VerdictRecord.model == model,
            VerdictRecord.run == run,
            VerdictRecord.lumisection == lumisection,
        )
        .order_by(col(VerdictRecord.received_at))
    )
    with Session(engine) as session:
        return [_verdict(record) for record in session.exec(query).all()]


def incidents(
    engine: Engine,
    *,
    model: str | None = None,
    states: Sequence[IncidentState] | None = None,
    limit: int = 200,
) -> list[views.IncidentView]:
    """Incidents, newest first; `states` narrows (for instance everything but resolved)."""
    query = select(IncidentRecord)
    if model is not None:
        query = query.where(IncidentRecord.model == model)
    if states is not None:
        query = query.where(col(IncidentRecord.state).in_([state.value for state in states]))
    if states is None or IncidentState.RESOLVED in states:
        newest = col(IncidentRecord.opened_at).desc(), col(IncidentRecord.number).desc()
        query = query.order_by(*newest).limit(limit)
    with Session(engine) as session:
        found = session.exec(query).all()
        # unresolved ones are few and ordered here: the database would look through all others for it
        ordered = sorted(found, key=lambda one: (one.opened_at, one.number), reverse=True)[:limit]
        return [_view(views.IncidentView, record) for record in ordered]


def incident(engine: Engine, incident_id: str) -> views.IncidentDetail:
    """One incident with its history, responses and notifications.

    Raises
    ------
    NotFound
        No such incident.
    """
    with Session(engine) as session:
        record = _get(session, IncidentRecord, incident_id, "incident")
        history = session.exec(
            select(IncidentEventRecord)
            .where(IncidentEventRecord.incident_id == incident_id)
            .order_by(col(IncidentEventRecord.id))
        ).all()
        answers = session.exec(
            select(ResponseRecord)
            .where(ResponseRecord.incident_id == incident_id)
            .order_by(col(ResponseRecord.number))
        ).all()
        return views.IncidentDetail(
            **record.model_dump(),
            events=[_view(views.IncidentEventView, line) for line in history],
            responses=[_view(views.ResponseView, answer) for answer in answers],
            notifications=_notifications(session, incident_id, 200),
        )


def responses(
    engine: Engine,
    *,
    model: str | None = None,
    incident_id: str | None = None,
    states: Sequence[ResponseState] | None = None,
    limit: int = 200,
) -> list[views.ResponseView]:
    """Responses, newest first."""
    query = select(ResponseRecord)
    if model is not None:
        query = query.where(ResponseRecord.model == model)
    if incident_id is not None:
        query = query.where(ResponseRecord.incident_id == incident_id)
    if states is not None:
        query = query.where(col(ResponseRecord.state).in_([state.value for state in states]))
    query = query.order_by(col(ResponseRecord.created_at).desc()).limit(limit)
    with Session(engine) as session:
        return [_view(views.ResponseView, record) for record in session.exec(query).all()]


def response(engine: Engine, response_id: str) -> views.ResponseDetail:
    """One response with its proposal, decisions and steps (live progress).

    Raises
    ------
    NotFound
        No such response.
    """
    with Session(engine) as session:
        record = _get(session, ResponseRecord, response_id, "response")
        decisions = session.exec(
            select(DecisionRecord)
            .where(DecisionRecord.response_id == response_id)
            .order_by(col(DecisionRecord.at))
        ).all()
        steps = session.exec(
            select(ResponseStepRecord)
            .where(ResponseStepRecord.response_id == response_id)
            .order_by(col(ResponseStepRecord.number))
        ).all()
        return views.ResponseDetail(
            **record.model_dump(),
            waits_for=waits_for(record, decisions),
            decisions=[_view(views.DecisionView, decision) for decision in decisions],
            steps=[_view(views.StepView, step) for step in steps],
        )


def notifications(
    engine: Engine, *, incident_id: str | None = None, limit: int = 200
) -> list[views.NotificationView]:
    """Messages to the outside with their exact payloads, oldest first."""
    with Session(engine) as session:
        return _notifications(session, incident_id, limit)


def events(engine: Engine, *, after: int = 0, limit: int = 500) -> list[views.EventView]:
    """Happenings with `sequence` > `after`, oldest first: a reader keeps the last sequence as its cursor."""
    query = (
        select(EventRecord)
        .where(col(EventRecord.sequence) > after)
        .order_by(col(EventRecord.sequence))
        .limit(limit)
    )
    with Session(engine) as session:
        return [_view(views.EventView, record) for record in session.exec(query).all()]


def audit(
    engine: Engine,
    *,
    since: datetime | None = None,
    actor: str | None = None,
    kind: str | None = None,
    limit: int = 200,
) -> list[views.EventView]:
    """List the newest happenings that fit, oldest first.

    Parameters
    ----------
    kind
        A kind, or the beginning of several: ``incident`` fits ``incident.opened``.
    """
    query = select(EventRecord).order_by(col(EventRecord.sequence).desc()).limit(limit)
    if since is not None:
        query = query.where(col(EventRecord.at) >= since)
    if actor is not None:
        query = query.where(EventRecord.actor == actor)
    if kind is not None:
        family = col(EventRecord.kind).startswith(f"{kind.rstrip('.')}.", autoescape=True)
        query = query.where(or_(EventRecord.kind == kind, family))
    with Session(engine) as session:
        return [_view(views.EventView, record) for record in reversed(session.exec(query).all())]


def _model_statuses(engine: Engine, models: Sequence[SiteModel]) -> list[views.ModelStatus]:
    """Read the status of models in a number of statements that does not grow with them."""
    names = [model.name for model in models]
    with Session(engine) as session:
        verdicts = latest_verdicts(session, names)
        # ordered here: the database would look through all that are resolved for it
        unresolved = session.exec(
            select(IncidentRecord).where(
                col(IncidentRecord.model).in_(names), col(IncidentRecord.state).in_(UNRESOLVED)
            )
        ).all()
        current = {one.model: one for one in sorted(unresolved, key=lambda one: (one.opened_at, one.number))}
        running = [state.value for state in ResponseState if state not in FINAL_RESPONSE_STATES]
        answers = _newest_of_each(
            session,
            select(ResponseRecord)
            .where(col(ResponseRecord.model).in_(names), col(ResponseRecord.state).in_(running))
            .order_by(col(ResponseRecord.created_at)),
        )
        judged = dict(
            session.exec(
                select(VerdictRecord.model, func.count())
                .where(col(VerdictRecord.model).in_(names))
                .group_by(VerdictRecord.model)
            ).all()
        )
        return [
            _model_status(
                model,
                verdicts.get(model.name),
                _view(views.IncidentView, current[model.name]) if model.name in current else None,
                _view(views.ResponseView, answers[model.name]) if model.name in answers else None,
                judged.get(model.name, 0),
            )
            for model in models
        ]


def _model_status(
    model: SiteModel,
    verdict: views.VerdictView | None,
    incident: views.IncidentView | None,
    response: views.ResponseView | None,
    windows_judged: int,
) -> views.ModelStatus:
    return views.ModelStatus(
        model=model.name,
        description=model.settings.description,
        contract_version=model.contract.version,
        n_inputs=model.contract.n_inputs,
        verdict=verdict,
        package=verdict.package if verdict else None,
        reference_id=verdict.reference_id if verdict else None,
        incident=incident,
        response=response,
        windows_judged=windows_judged,
        rate_band=model.settings.watch.rate_band,
        board=model.settings.firmware.board,
        toolchain=model.settings.firmware.toolchain,
        approvers=list(model.policy.approvers),
        has_firmware=model.has_firmware,
    )


def latest_verdicts(session: Session, models: Sequence[str]) -> dict[str, views.VerdictView]:
    """Give the latest verdict of each model that has one, by model, in one statement."""
    rows = newest_verdicts(session, models, col(VerdictRecord.payload), limit=1)
    return {row.model: views.VerdictView(received_at=row.received_at, **row.payload) for row in rows}


def _newest_of_each(session: Session, oldest_first: Any) -> dict[str, Any]:
    return {record.model: record for record in session.exec(oldest_first).all()}


def site_model(site: Site, name: str) -> SiteModel:
    """Find a monitored model by name; raises `NotFound` if the site does not watch it."""
    try:
        return site.models[name]
    except KeyError:
        known = ", ".join(sorted(site.models))
        raise NotFound(f"model {name!r} is not watched at this site; known models: {known}") from None


def firmware_model(site: Site, name: str) -> SiteModel:
    """Find a monitored model that firmware runs.

    Raises
    ------
    NotFound
        The site does not watch it.
    SettingsError
        It is watched by histograms, and has no firmware.
    """
    model = site_model(site, name)
    if not model.has_firmware:
        raise SettingsError(
            f"model '{name}' is watched by histograms and has no events and no firmware: "
            "see `lumiwatch watch` and `lumiwatch reference from-histograms`"
        )
    return model


def _notifications(session: Session, incident_id: str | None, limit: int) -> list[views.NotificationView]:
    query = select(NotificationRecord)
    if incident_id is not None:
        query = query.where(NotificationRecord.incident_id == incident_id)
    query = query.order_by(col(NotificationRecord.created_at).desc()).limit(limit)
    return [_view(views.NotificationView, record) for record in reversed(session.exec(query).all())]


def _verdict(record: VerdictRecord) -> views.VerdictView:
    return views.VerdictView(received_at=record.received_at, **record.payload)


def _view(kind: type[_View], record: SQLModel) -> _View:
    return kind.model_validate(record.model_dump())


_Record = TypeVar("_Record", bound=SQLModel)


def _get(session: Session, kind: type[_Record], key: Any, word: str) -> _Record:
    record = session.get(kind, key)
    if record is None:
        raise NotFound(f"no {word} {key!r}; list them with `lumiwatch {word}s`")
    return record
