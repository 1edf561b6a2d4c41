"""API tokens of declared people: shown once, kept as SHA-256, with a name, an end and the time of last use.

Tokens in files that lumiwatch.toml names are not here (see `people`).
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from daemon.access.people import digest
from daemon.access.records import TokenRecord
from daemon.errors import InvalidChoice, NotFound
from daemon.journal.happenings import record_event
from daemon.store.database import transaction
from streams.store.database import read_session

MAXIMUM_DAYS: Final = 366
_PREFIX: Final = "lw_"
"""By which people, and programs that look for leaked secrets, know what it is."""
_SECRET_BYTES: Final = 32
_USED_EVERY: Final = timedelta(minutes=1)


class Tokens:
    """Makes, finds and revokes tokens.

    Parameters
    ----------
    engine
        The site's database.
    clock
        Gives aware UTC.
    """

    def __init__(self, engine: Engine, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._clock = clock

    def create(self, person: str, name: str, *, days: float, by: str) -> tuple[TokenRecord, str]:
        """Make a token.

        Parameters
        ----------
        person, name
            Whose it is, and what it is for.
        days
            How long it is good.
        by
            Who made it.

        Returns
        -------
        TokenRecord, str
            What is kept, and the token itself, which is not.

        Raises
        ------
        InvalidChoice
            It would be good for no time, or for too long.
        """
        if not 0 < days <= MAXIMUM_DAYS:
            raise InvalidChoice(f"a token is good for more than 0 and at most {MAXIMUM_DAYS} days")
        now, token = self._clock(), _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        record = TokenRecord(
            id=f"t-{secrets.token_hex(4)}",
            digest=digest(token).hex(),
            person=person,
            name=name,
            created_at=now,
            ends_at=now + timedelta(days=days),
        )
        with transaction(self._engine) as session:
            session.add(record)
            self._record(
                session,
                "access.token_created",
                f"{by} made the token {record.id} for {person}, good until {record.ends_at:%Y-%m-%d}.",
                record,
                by,
            )
        return record, token

    def listed(self, person: str | None = None) -> list[TokenRecord]:
        """List the tokens of a person, or of all, that are not revoked; newest first."""
        wanted = select(TokenRecord).where(col(TokenRecord.revoked_at).is_(None))
        if person is not None:
            wanted = wanted.where(TokenRecord.person == person)
        with read_session(self._engine) as session:
            return list(session.exec(wanted.order_by(col(TokenRecord.created_at).desc())).all())

    def get(self, identity: str) -> TokenRecord:
        """Find a token by its id.

        Raises
        ------
        NotFound
            There is none, or it is revoked.
        """
        with read_session(self._engine) as session:
            found = session.get(TokenRecord, identity)
        if found is None or found.revoked_at is not None:
            raise NotFound(f"no token {identity!r}; `lumiwatch tokens list` names them")
        return found

    def revoke(self, identity: str, *, by: str) -> None:
        """End a token for good.

        Raises
        ------
        NotFound
            There is none, or it is revoked already.
        """
        with transaction(self._engine) as session:
            found = session.get(TokenRecord, identity)
            if found is None or found.revoked_at is not None:
                raise NotFound(f"no token {identity!r}; `lumiwatch tokens list` names them")
            found.revoked_at = self._clock()
            self._record(
                session,
                "access.token_revoked",
                f"{by} revoked the token {identity} of {found.person}.",
                found,
                by,
            )

    def person_of(self, token: str) -> str | None:
        """Tell whose token this is; None: nobody's, or it has ended or was revoked."""
        shown, now = digest(token).hex(), self._clock()
        with read_session(self._engine) as session:
            found = session.exec(select(TokenRecord).where(TokenRecord.digest == shown)).first()
        if found is None or not hmac.compare_digest(found.digest, shown):
            return None
        if found.revoked_at is not None or found.ends_at <= now:
            return None
        if found.used_at is None or now - found.used_at >= _USED_EVERY:
            with transaction(self._engine) as session:
                record = session.get(TokenRecord, found.id)
                if record is not None:
                    record.used_at = now
        return found.person

    def _record(self, session: Session, kind: str, text: str, token: TokenRecord, by: str) -> None:
        detail = {"token": token.id, "name": token.name, "person": token.person}
        record_event(session, kind, text, now=self._clock(), actor=by, detail=detail)
