"""Browsers that are logged in: begun at a login, looked up at every request, ended by logout or by time.

A session names a person and grants nothing to somebody who is declared: the role is asked for anew each time.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, Engine, delete, or_
from sqlmodel import Session, col, select

from daemon.access.people import Person, digest
from daemon.access.records import SessionRecord
from daemon.access.roles import Role
from daemon.store.database import transaction
from streams.store.database import read_session

SESSION_COOKIE: Final = "lumiwatch_session"
_SECRET_BYTES: Final = 32
_SEEN_EVERY: Final = timedelta(minutes=1)


class Sessions:
    """Begins, finds and ends sessions.

    Parameters
    ----------
    engine
        The site's database.
    clock
        Gives aware UTC.
    life
        How long a login lasts at most.
    idle
        After how long without a request it ends.
    """

    def __init__(
        self, engine: Engine, clock: Callable[[], datetime], *, life: timedelta, idle: timedelta
    ) -> None:
        self._engine = engine
        self._clock = clock
        self.life = life
        self._idle = idle

    def begin(self, session: Session, person: Person, via: str) -> str:
        """Begin a session and give the cookie's value, which is kept nowhere; sessions that are over go."""
        now = self._clock()
        session.execute(delete(SessionRecord).where(self._over(now)))
        cookie = secrets.token_urlsafe(_SECRET_BYTES)
        session.add(
            SessionRecord(
                digest=digest(cookie).hex(),
                person=person.name,
                full_name=person.full_name,
                granted_role=None if person.declared else person.role,
                via=via,
                created_at=now,
                seen_at=now,
                ends_at=now + self.life,
            )
        )
        return cookie

    def find(self, cookie: str) -> SessionRecord | None:
        """Find the session of a cookie; None for a forged one and one that is over."""
        now = self._clock()
        with read_session(self._engine) as session:
            found = session.get(SessionRecord, digest(cookie).hex())
        if found is None or found.ends_at <= now or found.seen_at + self._idle <= now:
            return None
        return found

    def see(self, found: SessionRecord) -> None:
        """Note that a session is in use: not at each request, for that would be a write each time."""
        now = self._clock()
        if now - found.seen_at >= _SEEN_EVERY:
            with transaction(self._engine) as session:
                record = session.get(SessionRecord, found.digest)
                if record is not None:
                    record.seen_at = now

    def end(self, cookie: str) -> None:
        """End one session; a cookie without one is no error."""
        with transaction(self._engine) as session:
            session.execute(delete(SessionRecord).where(col(SessionRecord.digest) == digest(cookie).hex()))

    def end_all(self, session: Session, person: str, *, but: str | None = None) -> None:
        """End every session of a person, but for the one with this cookie."""
        kept = "" if but is None else digest(but).hex()
        session.execute(
            delete(SessionRecord).where(
                col(SessionRecord.person) == person, col(SessionRecord.digest) != kept
            )
        )

    def granted(self, name: str) -> Person | None:
        """Find somebody whom single sign-on let in and who is still logged in."""
        now = self._clock()
        with read_session(self._engine) as session:
            found = session.exec(
                select(SessionRecord)
                .where(col(SessionRecord.person) == name, col(SessionRecord.granted_role).is_not(None))
                .where(~self._over(now))
                .order_by(col(SessionRecord.created_at).desc())
            ).first()
        return None if found is None else granted_person(found)

    def _over(self, now: datetime) -> ColumnElement[bool]:
        return or_(col(SessionRecord.ends_at) <= now, col(SessionRecord.seen_at) <= now - self._idle)


def granted_person(found: SessionRecord) -> Person | None:
    """Tell whom a session stands for if lumiwatch.toml does not declare them; None: nobody any more."""
    if found.granted_role is None:
        return None
    return Person(found.person, found.full_name, Role(found.granted_role), declared=False)
