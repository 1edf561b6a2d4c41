"""Who I am, and my API tokens, on `/api/v1`. What a role may do is decided elsewhere."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from daemon.access.records import TokenRecord
from daemon.access.roles import Act, Role, rights
from daemon.access.tokens import MAXIMUM_DAYS
from daemon.api.callers import Actor, Reader, ServicesOf

router = APIRouter(prefix="/api/v1")

_TokenId = Annotated[str, Path(pattern=r"^t-[0-9a-f]{8}$")]


class Me(BaseModel):
    """Somebody who is logged in, or whose token came with the request."""

    name: str
    full_name: str
    role: Role
    rights: tuple[Act, ...]


class TokenView(BaseModel):
    """A token, without the token itself."""

    id: str
    person: str
    name: str
    created_at: datetime
    ends_at: datetime
    used_at: datetime | None


class NewToken(BaseModel):
    """What a token is asked for."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=80, description="what it is for")
    days: Annotated[float, Field(gt=0, le=MAXIMUM_DAYS)] = 90
    person: str | None = Field(default=None, description="whose it will be; default: the caller's")


class MadeToken(TokenView):
    """A token that was just made: the only time that it is shown."""

    token: str


@router.get("/me")
def me(person: Reader) -> Me:
    """Say who I am and what I may do."""
    return Me(name=person.name, full_name=person.full_name, role=person.role, rights=rights(person.role))


@router.get("/tokens")
def list_tokens(services: ServicesOf, person: Reader, everybody: bool = False) -> list[TokenView]:
    """List my tokens; an admin's `everybody=true` lists those of all."""
    if everybody:
        services.access.check(person.name, Act.MANAGE_ACCESS)
    return [_view(token) for token in services.access.tokens.listed(None if everybody else person.name)]


@router.post("/tokens", status_code=201)
def create_token(body: NewToken, services: ServicesOf, person: Actor) -> MadeToken:
    """Make a token, mine or, as an admin, that of somebody else. It is shown once."""
    owner = body.person or person.name
    services.access.check_owner(person.name, owner)
    services.access.declared(owner)
    token, secret = services.access.tokens.create(owner, body.name, days=body.days, by=person.name)
    return MadeToken(**_view(token).model_dump(), token=secret)


@router.delete("/tokens/{token_id}", status_code=204)
def revoke_token(token_id: _TokenId, services: ServicesOf, person: Actor) -> None:
    """End a token for good, mine or, as an admin, that of somebody else."""
    services.access.check_owner(person.name, services.access.tokens.get(token_id).person)
    services.access.tokens.revoke(token_id, by=person.name)


def _view(token: TokenRecord) -> TokenView:
    return TokenView.model_validate(token, from_attributes=True)
