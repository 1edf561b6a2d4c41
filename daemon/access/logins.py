"""Logging in: with name and password, with a token, by single sign-on. Limited, counted, recorded.

Says the same to a wrong password as to an unknown name, after the same work. Never writes down a name that is
nobody's: people type passwords there. Refuses to know forms and cookies.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final, Literal

from sqlalchemy import Engine

from daemon.access.control import AccessControl
from daemon.access.limits import Limit
from daemon.access.people import Person
from daemon.access.sign_on import Arrival
from daemon.errors import NotAuthenticated, NotPermitted, TooManyTries
from daemon.journal.happenings import ACTOR, record_event
from daemon.store.database import transaction

logger = logging.getLogger(__name__)

Outcome = Literal["granted", "refused", "limited"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("granted", "refused", "limited")
TRIES_OF_A_NAME: Final = 10
TRIES_FROM_AN_ADDRESS: Final = 30
WINDOW: Final = timedelta(minutes=15)
_REFUSALS_RECORDED: Final = 20
"""Within an hour, for the whole site: a robot at the door must not fill the database."""


@dataclass(frozen=True)
class LoggedIn:
    """A login that was good.

    Attributes
    ----------
    cookie
        Value of the session's cookie; kept nowhere else.
    """

    person: Person
    cookie: str


class Logins:
    """Lets people in.

    Parameters
    ----------
    engine
        The site's database.
    access
        Knows people and what they show.
    clock
        Gives aware UTC.
    count
        Called with the outcome of each login.
    """

    def __init__(
        self,
        engine: Engine,
        access: AccessControl,
        clock: Callable[[], datetime],
        count: Callable[[Outcome], None],
    ) -> None:
        self._engine = engine
        self._access = access
        self._clock = clock
        self._count = count
        self._names = Limit(clock, tries=TRIES_OF_A_NAME, window=WINDOW)
        self._addresses = Limit(clock, tries=TRIES_FROM_AN_ADDRESS, window=WINDOW)
        self._recorded = Limit(clock, tries=_REFUSALS_RECORDED, window=timedelta(hours=1))

    def with_password(self, name: str, password: str, *, address: str) -> LoggedIn:
        """Log in with name and password.

        Parameters
        ----------
        address
            Where the request comes from.

        Raises
        ------
        NotAuthenticated
            The name or the password is wrong.
        TooManyTries
            Of this name, or from this address.
        """
        name = name.strip()
        person = self._access.people.find(name)
        with self._limited(address, name):
            known = None if person is None else person.name
            right = self._access.passwords.matches(known, password)
            if person is None or not right:
                self._refuse(person, address, "with a password")
                raise NotAuthenticated("the name or the password is wrong")
        return self._begin(person, "password", address)

    def with_token(self, token: str, *, address: str) -> LoggedIn:
        """Log in with a token, as the login link does.

        Raises
        ------
        NotAuthenticated
            It is nobody's.
        TooManyTries
            From this address.
        """
        with self._limited(address):
            try:
                person = self._access.person_of_token(token)
            except NotAuthenticated:
                self._refuse(None, address, "with a token")
                raise
        return self._begin(person, "token", address)

    def with_identity(self, arrive: Callable[[], Arrival], *, address: str) -> tuple[LoggedIn, str]:
        """Log in somebody who comes back from single sign-on.

        Parameters
        ----------
        arrive
            Says who it is, or refuses.

        Returns
        -------
        LoggedIn, str
            The login, and the page to go to.

        Raises
        ------
        NotAuthenticated, NotPermitted, ProviderAway
            As `arrive`.
        TooManyTries
            From this address.
        """
        with self._limited(address):
            try:
                arrival = arrive()
            except (NotAuthenticated, NotPermitted):
                self._refuse(None, address, "by single sign-on")
                raise
        return self._begin(arrival.person, "oidc", address), arrival.place

    def change_password(self, name: str, current: str, new: str, *, keep: str) -> None:
        """Give somebody who is logged in a new password of their own; their other sessions end.

        Parameters
        ----------
        current
            The present one: a session that somebody left open must not suffice.
        keep
            Cookie of the session that goes on.

        Raises
        ------
        NotAuthenticated
            The present password is wrong, or there is none.
        TooManyTries
            Of this name.
        InvalidChoice
            The new password is too short or too long.
        """
        self._names.admit(name)
        if not self._access.passwords.matches(name, current):
            raise NotAuthenticated(
                "that is not your present password; `lumiwatch users password` gives a first one"
            )
        self._names.take_back(name)
        self._access.set_password(name, new, by=name, keep=keep)

    @contextmanager
    def _limited(self, address: str, name: str | None = None) -> Iterator[None]:
        """Count a try before it is made; what ends well, or is not the caller's fault, does not count."""
        where = _network(address)
        try:
            self._addresses.admit(where)
            if name is not None:
                self._names.admit(name[:64])
        except TooManyTries:
            self._count("limited")
            raise
        try:
            yield
        except (NotAuthenticated, NotPermitted):
            raise
        except BaseException:
            self._take_back(where, name)
            raise
        self._take_back(where, name)

    def _take_back(self, where: str, name: str | None) -> None:
        self._addresses.take_back(where)
        if name is not None:
            self._names.take_back(name[:64])

    def _begin(self, person: Person, via: str, address: str) -> LoggedIn:
        with transaction(self._engine) as session:
            cookie = self._access.sessions.begin(session, person, via)
            record_event(
                session,
                "access.login",
                f"{person.name} logged in ({via}) from {address}.",
                now=self._clock(),
                actor=person.name,
                detail={"via": via, "address": address, "role": person.role.value},
            )
        self._count("granted")
        return LoggedIn(person, cookie)

    def _refuse(self, person: Person | None, address: str, how: str) -> None:
        self._count("refused")
        whom = person.name if person is not None else "somebody unknown"
        text = f"A login of {whom} {how} from {address} was refused."
        logger.warning("%s", text)
        with suppress(TooManyTries):
            self._recorded.admit("")
            with transaction(self._engine) as session:
                record_event(
                    session,
                    "access.refused",
                    text,
                    now=self._clock(),
                    actor=ACTOR,
                    detail={"address": address},
                )


def _network(address: str) -> str:
    """Take the addresses that one host can have as one: of IPv6 it has 2^64."""
    try:
        found = ip_address(address)
    except ValueError:
        return address  # of a request that has none
    return str(ip_network((found, 64), strict=False)) if isinstance(found, IPv6Address) else str(found)
