"""Acting on `/api/v1`, with the name of the operator whose token came with the request."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from daemon.api.callers import Actor, ServicesOf
from daemon.responses.policy import LEAST_INVASIVE
from daemon.store import queries, views
from daemon.store.records import DecisionKind

router = APIRouter(prefix="/api/v1")


class Comment(BaseModel):
    """Words that go with an act."""

    model_config = ConfigDict(extra="forbid")

    comment: str = Field(default="", max_length=2000)


class Note(BaseModel):
    """A line for an incident's history."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1, max_length=2000)


class RetrainRequest(BaseModel):
    """Why a model is to be retrained."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=2000)
    via: Literal["api", "cli"] = "api"


class Decision(BaseModel):
    """An answer to what a response asks: whether to begin, or whether to touch the board."""

    model_config = ConfigDict(extra="forbid")

    decision: DecisionKind
    strategy: str | None = Field(default=None, description=f"only with approve; default {LEAST_INVASIVE}")
    comment: str = Field(default="", max_length=2000)
    via: Literal["api", "cli"] = "api"


@router.post("/incidents/{incident_id}/acknowledge")
def acknowledge(
    incident_id: str, body: Comment, services: ServicesOf, operator: Actor
) -> views.IncidentDetail:
    """Say that someone looks after the incident."""
    services.operations.acknowledge(incident_id, operator=operator.name, comment=body.comment)
    return queries.incident(services.engine, incident_id)


@router.post("/incidents/{incident_id}/notes", status_code=201)
def add_note(incident_id: str, body: Note, services: ServicesOf, operator: Actor) -> views.IncidentDetail:
    """Add a line to an incident's history."""
    services.operations.note(incident_id, operator=operator.name, text=body.text)
    return queries.incident(services.engine, incident_id)


@router.post("/incidents/{incident_id}/resolve")
def resolve(incident_id: str, body: Comment, services: ServicesOf, operator: Actor) -> views.IncidentDetail:
    """End an incident by hand."""
    services.operations.resolve(incident_id, operator=operator.name, comment=body.comment)
    return queries.incident(services.engine, incident_id)


@router.post("/incidents/{incident_id}/responses", status_code=201)
def propose(incident_id: str, services: ServicesOf, operator: Actor) -> views.ResponseDetail:
    """Ask for a new response, for instance after a rejection or a rollback."""
    response_id = services.operations.propose(incident_id, operator=operator.name)
    return queries.response(services.engine, response_id)


@router.post("/models/{model}/retrain", status_code=201)
def request_retrain(
    model: str, body: RetrainRequest, services: ServicesOf, operator: Actor
) -> views.ResponseDetail:
    """Ask for a retraining without an alarm; it is proposed and approved as any response."""
    response_id = services.operations.request_retrain(
        model, operator=operator.name, reason=body.reason, via=body.via
    )
    return queries.response(services.engine, response_id)


@router.post("/responses/{response_id}/decisions", status_code=201)
def decide(response_id: str, body: Decision, services: ServicesOf, operator: Actor) -> views.ResponseDetail:
    """Approve, reject or prescale out; single-use, by a listed approver."""
    services.operations.decide(
        response_id,
        body.decision,
        operator=operator.name,
        strategy=body.strategy,
        comment=body.comment,
        via=body.via,
    )
    return queries.response(services.engine, response_id)
