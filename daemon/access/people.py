"""Who is declared: the people of `[operators]` in lumiwatch.toml, and the token files that they may have.

The file counts as it is now: whoever is taken out of it, or lowered in role, is so at the next question. One
that cannot be read counts as it was, so that a slip of the pen locks nobody out. Opens no database.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Final

from daemon.access.roles import Role
from daemon.access.secret_files import read_or_make_secret, read_private_secret
from daemon.errors import SettingsError
from daemon.site.sections import SiteSettings
from daemon.site.settings import Site, read_site_settings

logger = logging.getLogger(__name__)

DEFAULT_OPERATOR: Final = "local"
"""Who acts at a site that declares nobody."""
RESERVED: Final = frozenset({"lumiwatch", "policy", DEFAULT_OPERATOR})
"""Names that stand for no person in histories: nobody gets one by single sign-on."""


@dataclass(frozen=True)
class Person:
    """Somebody who may look or act; the name is what approvers lists and histories hold.

    Attributes
    ----------
    role
        As of the moment of asking.
    declared
        False: known by single sign-on alone.
    """

    name: str
    full_name: str = ""
    role: Role = Role.OPERATOR
    declared: bool = True


@dataclass(frozen=True)
class _Declared:
    """What one reading of the file said."""

    people: Mapping[str, Person]
    subjects: Mapping[str, str]
    file_tokens: Mapping[bytes, str]


class People:
    """The declared people of a site.

    Parameters
    ----------
    site
        As it was loaded; its file is read again when it changes.

    Raises
    ------
    SettingsError
        A token file is missing, readable by others, too short, or shared by two people.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._stamp = _stamp(site.file)
        self._declared = _declare(site)
        self._declares = bool(site.settings.operators)
        self._reading = Lock()

    def find(self, name: str) -> Person | None:
        """Find a declared person by name."""
        return self._now().people.get(name)

    def everyone(self) -> tuple[Person, ...]:
        """List all who are declared, by name."""
        return tuple(person for _, person in sorted(self._now().people.items()))

    def of_token_file(self, token: str) -> Person | None:
        """Tell in whose token file a token stands."""
        declared, shown = self._now(), digest(token)
        found = None
        for known, name in declared.file_tokens.items():  # all of them: the time must not tell which one
            if hmac.compare_digest(shown, known):
                found = declared.people[name]
        return found

    def of_identity(self, subject: str, name: str) -> Person | None:
        """Tell whom an identity of single sign-on belongs to.

        Parameters
        ----------
        subject, name
            The provider's own identifier, and the claim that names people; the first is looked for first.
        """
        declared = self._now()
        mine = declared.subjects.get(subject) or declared.subjects.get(name)
        return None if mine is None else declared.people[mine]

    def _now(self) -> _Declared:
        stamp = _stamp(self._site.file)
        if stamp != self._stamp:
            with self._reading:
                if stamp != self._stamp:
                    self._read_again()
                    self._stamp = stamp
        return self._declared

    def _read_again(self) -> None:
        try:
            self._declared = _declare(replace(self._site, settings=self._settings_now()))
        except SettingsError as error:
            logger.error("people and roles stay as they were: %s", error)  # noqa: TRY400 - one line, no traceback
        else:
            logger.info("people and roles were read again from %s", self._site.file)

    def _settings_now(self) -> SiteSettings:
        """Read the file; one that lost all its people is half written, or nobody's intent in passing."""
        settings = read_site_settings(self._site.file)
        if self._declares and not settings.operators:
            raise SettingsError(f"{self._site.file}: declares nobody any more; if you mean it, restart")
        return settings


def default_token_file(site: Site) -> Path:
    """Give the place of the token of the operator `local`."""
    return site.secrets_dir / f"operator-{DEFAULT_OPERATOR}-token"


def digest(secret: str) -> bytes:
    """Hash a random secret. Passwords, which people choose, need more (see `passwords`)."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _declare(site: Site) -> _Declared:
    configured = site.settings.operators
    if not configured:
        token = read_or_make_secret(default_token_file(site))
        local = Person(DEFAULT_OPERATOR, role=Role.ADMIN)
        return _Declared({local.name: local}, {}, {digest(token): local.name})
    people: dict[str, Person] = {}
    subjects: dict[str, str] = {}
    file_tokens: dict[bytes, str] = {}
    for name, operator in configured.items():
        people[name] = Person(name, operator.full_name, operator.role)
        subject = operator.subject or name
        if subjects.setdefault(subject, name) != name:
            raise SettingsError(
                f"operators.{name}.subject is also that of {subjects[subject]}: give each person their own"
            )
        if operator.token_file is None:
            continue
        key = f"operators.{name}.token_file"
        token = read_private_secret(site.path(operator.token_file), key=key)
        if file_tokens.setdefault(digest(token), name) != name:
            raise SettingsError(
                "two operators share one token: give each [operators.<name>] a token of its own"
            )
    return _Declared(people, subjects, file_tokens)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    """Give what changes with the content of a file; None while there is none."""
    try:
        state = file.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino
