"""Reading what the daemon knows: plain functions over the database, used by API, console and alerts.

Every function opens one short read session on the engine handed in and returns views. Changes
nothing, knows no web framework.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from sqlalchemy.engine import Engine
from sqlmodel import Session, SQLModel, col, func, select

from daemon import views
from daemon.errors import NotFound, SettingsError
from daemon.records import (
    FINAL_RESPONSE_STATES,
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
from daemon.settings import Site, SiteModel

_View = TypeVar("_View", bound=views.View)


def model_statuses(engine: Engine, site: Site) -> list[views.ModelStatus]:
    """Status of every monitored model, by name."""
    return [_model_status(engine, model) for _, model in sorted(site.models.items())]


def model_status(engine: Engine, site: Site, model: str) -> views.ModelStatus:
    """Status of one model.

    Raises
    ------
    NotFound
        The site does not watch this model.
    """
    return _model_status(engine, site_model(site, model))


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
    query = query.order_by(col(IncidentRecord.opened_at).desc(), col(IncidentRecord.number).desc()).limit(
        limit
    )
    with Session(engine) as session:
        return [_view(views.IncidentView, record) for record in session.exec(query).all()]


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


def _model_status(engine: Engine, model: SiteModel) -> views.ModelStatus:
    latest = verdict_timeline(engine, model.name, limit=1)
    unresolved = [state for state in IncidentState if state is not IncidentState.RESOLVED]
    current = incidents(engine, model=model.name, states=unresolved, limit=1)
    running = [state for state in ResponseState if state not in FINAL_RESPONSE_STATES]
    answer = responses(engine, model=model.name, states=running, limit=1)
    verdict = latest[0] if latest else None
    with Session(engine) as session:
        judged = session.exec(
            select(func.count()).select_from(VerdictRecord).where(VerdictRecord.model == model.name)
        ).one()
    return views.ModelStatus(
        model=model.name,
        description=model.settings.description,
        contract_version=model.contract.version,
        n_inputs=model.contract.n_inputs,
        verdict=verdict,
        package=verdict.package if verdict else None,
        reference_id=verdict.reference_id if verdict else None,
        incident=current[0] if current else None,
        response=answer[0] if answer else None,
        windows_judged=judged,
        rate_band=model.settings.watch.rate_band,
        board=model.settings.firmware.board,
        toolchain=model.settings.firmware.toolchain,
        approvers=list(model.policy.approvers),
        has_firmware=model.has_firmware,
    )


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
