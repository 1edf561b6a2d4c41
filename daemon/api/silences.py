"""Silences on `/api/v1`: list, begin, end, in the name of who calls."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from daemon.access.roles import Act
from daemon.api.callers import Actor, ServicesOf, reader
from daemon.incidents.silences import MAX_REASON, Silences
from daemon.incidents.silencing import Silence
from daemon.process.services import Services

router = APIRouter(prefix="/api/v1")
SilenceId = Annotated[str, Path(pattern=r"^silence-[0-9]{1,9}$", description="for example silence-3")]


class NewSilence(BaseModel):
    """What to keep quiet, until when, and why; what is left out matches everything."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=MAX_REASON)
    ends_at: AwareDatetime
    starts_at: AwareDatetime | None = None
    model: str | None = Field(default=None, max_length=63)
    family: str | None = Field(default=None, max_length=63)
    object: str | None = Field(default=None, max_length=63)


@router.get("/silences", dependencies=[Depends(reader)])
def list_silences(services: ServicesOf, active: bool = False) -> tuple[Silence, ...]:
    """Silences, the newest first; `active`: those that have not ended, waiting ones too."""
    return _silences(services).list(active_only=active)


@router.post("/silences", status_code=201)
def create_silence(body: NewSilence, services: ServicesOf, operator: Actor) -> Silence:
    """Keep matching incidents quiet until a given time."""
    services.access.check(operator.name, Act.SILENCE)
    silences = _silences(services)
    return silences.get(silences.create(author=operator.name, **dict(body)))


@router.delete("/silences/{silence_id}")
def end_silence(silence_id: SilenceId, services: ServicesOf, operator: Actor) -> Silence:
    """End a silence before its time."""
    services.access.check(operator.name, Act.SILENCE)
    silences = _silences(services)
    silences.end(silence_id, author=operator.name)
    return silences.get(silence_id)


def _silences(services: Services) -> Silences:
    return Silences(services.engine, services.site, services.clock)
