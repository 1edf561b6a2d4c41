"""Passwords of declared people, kept as argon2id hashes. Refuses to know what they open."""

from __future__ import annotations

import secrets
from datetime import datetime
from threading import BoundedSemaphore
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Engine, update
from sqlmodel import Session, col, select

from daemon.access.records import PasswordRecord
from daemon.errors import InvalidChoice
from daemon.store.database import transaction
from streams.store.database import read_session

MINIMUM_LENGTH: Final = 10
MAXIMUM_LENGTH: Final = 256
_AT_ONCE: Final = 2
"""Hashes that are computed at the same time: each takes a core and 64 MiB."""


class Passwords:
    """Keeps and checks passwords.

    Parameters
    ----------
    engine
        The site's database.
    hasher
        Sets the cost of a hash; hashes of another cost are made anew at the next login.
    """

    def __init__(self, engine: Engine, hasher: PasswordHasher | None = None) -> None:
        self._engine = engine
        self._hasher = hasher or PasswordHasher()
        self._decoy = self._hasher.hash(secrets.token_hex())
        self._turn = BoundedSemaphore(_AT_ONCE)

    def matches(self, person: str | None, password: str) -> bool:
        """Tell whether this is the person's password; the work is the same for all, and for nobody (None)."""
        known = None if person is None else self._hash_of(person)
        right = self._verify(known or self._decoy, password)
        if known is None or person is None or not right:
            return False
        if self._hasher.check_needs_rehash(known):
            self._renew(person, known, self._hash(password))
        return True

    def hash(self, password: str) -> str:
        """Hash a new password.

        Raises
        ------
        InvalidChoice
            It is too short or too long.
        """
        if not MINIMUM_LENGTH <= len(password) <= MAXIMUM_LENGTH:
            raise InvalidChoice(
                f"a password has {MINIMUM_LENGTH} to {MAXIMUM_LENGTH} characters: choose another"
            )
        return self._hash(password)

    def keep(self, session: Session, person: str, hashed: str, *, now: datetime) -> None:
        """Keep the hash of a person's new password."""
        session.merge(PasswordRecord(person=person, hash=hashed, changed_at=now))

    def changed_at(self) -> dict[str, datetime]:
        """Tell who has a password, and since when."""
        with read_session(self._engine) as session:
            return {record.person: record.changed_at for record in session.exec(select(PasswordRecord))}

    def _hash_of(self, person: str) -> str | None:
        with read_session(self._engine) as session:
            record = session.get(PasswordRecord, person)
        return None if record is None else record.hash

    def _renew(self, person: str, known: str, hashed: str) -> None:
        """Put a hash of today's cost in the place of an older one, unless the password changed meanwhile."""
        with transaction(self._engine) as session:
            session.execute(
                update(PasswordRecord)
                .where(col(PasswordRecord.person) == person, col(PasswordRecord.hash) == known)
                .values(hash=hashed)
            )

    def _hash(self, password: str) -> str:
        with self._turn:
            return self._hasher.hash(password.encode("utf-8", "surrogatepass"))

    def _verify(self, hashed: str, password: str) -> bool:
        if len(password) > MAXIMUM_LENGTH:
            password = ""  # nobody's
        with self._turn:
            try:
                return self._hasher.verify(hashed, password.encode("utf-8", "surrogatepass"))
            except (VerificationError, InvalidHashError):
                return False
