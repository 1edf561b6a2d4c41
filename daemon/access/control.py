"""The one place that says who is calling and what they may do.

API, console, chat and command line ask it each time, with what the caller showed or with a name: nothing that
was granted earlier is believed. Refuses to know routes and pages.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cached_property

from argon2 import PasswordHasher
from sqlalchemy import Engine

from daemon.access.passwords import Passwords
from daemon.access.people import People, Person
from daemon.access.records import SessionRecord
from daemon.access.roles import Act, check_role
from daemon.access.sessions import Sessions, granted_person
from daemon.access.tokens import Tokens
from daemon.errors import NotAuthenticated, NotFound, NotPermitted
from daemon.journal.happenings import record_event
from daemon.site.settings import Site
from daemon.store.database import transaction


class AccessControl:
    """Knows people, and what they show.

    Parameters
    ----------
    engine
        The site's database.
    site
        Declares people; without any, the operator `local` and its token are made.
    clock
        Gives aware UTC.
    hasher
        As of `Passwords`.

    Raises
    ------
    SettingsError
        A token file is missing, readable by others, too short, or shared by two people.
    """

    def __init__(
        self,
        engine: Engine,
        site: Site,
        clock: Callable[[], datetime],
        hasher: PasswordHasher | None = None,
    ) -> None:
        console = site.settings.console
        self._engine = engine
        self._clock = clock
        self._hasher = hasher
        self.people = People(site)
        self.tokens = Tokens(engine, clock)
        self.sessions = Sessions(
            engine,
            clock,
            life=timedelta(hours=console.session_hours),
            idle=timedelta(hours=console.idle_hours),
        )

    @cached_property
    def passwords(self) -> Passwords:
        """Passwords; made when first asked for, because the decoy takes as long as a login."""
        return Passwords(self._engine, self._hasher)

    def check(self, operator: str, act: Act) -> None:
        """Refuse an act that somebody may not do now.

        Raises
        ------
        NotPermitted
            Nobody here has this name (any more), or the role does not suffice.
        """
        person = self.find(operator)
        if person is None:
            raise NotPermitted(
                f"{operator!r} is nobody here and may not {act}: people are declared under [operators] in "
                "lumiwatch.toml"
            )
        check_role(person.name, person.role, act)

    def check_owner(self, who: str, owner: str) -> None:
        """Refuse to touch what belongs to somebody else, unless by right.

        Raises
        ------
        NotPermitted
            It is not one's own, and the role does not suffice.
        """
        if who != owner:
            self.check(who, Act.MANAGE_ACCESS)

    def find(self, name: str) -> Person | None:
        """Find somebody who is declared, or whom single sign-on let in and who is still logged in."""
        return self.people.find(name) or self.sessions.granted(name)

    def person_of_token(self, token: str) -> Person:
        """Tell whose token this is.

        Raises
        ------
        NotAuthenticated
            Nobody's, ended, revoked, or of somebody who is no longer declared.
        """
        person = self.people.of_token_file(token)
        if person is None:
            name = self.tokens.person_of(token)
            person = None if name is None else self.people.find(name)
        if person is None:
            raise NotAuthenticated(
                "unknown token: use the login link, the token file that lumiwatch.toml names, or one made by "
                "`lumiwatch tokens create`"
            )
        return person

    def person_of_session(self, cookie: str, *, seen: bool = False) -> Person:
        """Tell whose session this is.

        Parameters
        ----------
        cookie
            The cookie's value.
        seen
            Whether this counts as use of the session, which is what keeps it from ending idle; it may write.

        Raises
        ------
        NotAuthenticated
            Forged, over, or of somebody who is no longer declared.
        """
        found = self.sessions.find(cookie)
        person = None if found is None else self._person_of(found)
        if found is None or person is None:
            raise NotAuthenticated("the session has ended: log in again")
        if seen:
            self.sessions.see(found)
        return person

    def set_password(self, name: str, password: str, *, by: str, keep: str | None = None) -> None:
        """Give a declared person a new password; their sessions end.

        Parameters
        ----------
        by
            Who does it.
        keep
            Cookie of the session that may go on.

        Raises
        ------
        NotFound
            Nobody of this name is declared.
        InvalidChoice
            The password is too short or too long.
        """
        self.declared(name)
        hashed = self.passwords.hash(password)
        with transaction(self._engine) as session:
            now = self._clock()
            self.passwords.keep(session, name, hashed, now=now)
            self.sessions.end_all(session, name, but=keep)
            text = f"{by} set the password of {name}; earlier logins have ended."
            record_event(session, "access.password_changed", text, now=now, actor=by, detail={"person": name})

    def declared(self, name: str) -> Person:
        """Find a declared person.

        Raises
        ------
        NotFound
            There is none of this name.
        """
        person = self.people.find(name)
        if person is None:
            known = ", ".join(each.name for each in self.people.everyone())
            raise NotFound(f"nobody is called {name!r} in lumiwatch.toml; declared are {known}")
        return person

    def _person_of(self, found: SessionRecord) -> Person | None:
        declared = self.people.find(found.person)
        if found.granted_role is None:
            return declared
        return granted_person(found) if declared is None else None  # declared since: they log in once more
