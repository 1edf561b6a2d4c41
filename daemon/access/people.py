"""Who is declared: the people of `[operators]` in lumiwatch.toml, and the token files that they may have.

They are those of the configuration in effect: what `prepare` gives puts others in their place as a whole, and
whoever is taken out, or lowered in role, is so at the next question. Opens no database.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from daemon.access.roles import Role
from daemon.access.secret_files import read_or_make_secret, read_private_secret
from daemon.errors import SettingsError
from daemon.site.settings import Site

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
        Declares them.

    Raises
    ------
    SettingsError
        A token file is missing, readable by others, too short, or shared by two people.
    """

    def __init__(self, site: Site) -> None:
        self._declared = _declare(site)
        self._nobody = not site.settings.operators

    def prepare(self, site: Site) -> Callable[[], None]:
        """Read whom a new configuration declares; returns what lets them count, which cannot fail.

        Raises
        ------
        SettingsError
            As at the start; or nobody is declared any more: the file is half written, or it would make an
            admin of whoever holds the token of `local`. Nothing has changed.
        """
        if not self._nobody and not site.settings.operators:
            raise SettingsError(f"{site.file}: declares nobody any more; if you mean it, restart")
        declared = _declare(site)

        def take() -> None:
            self._declared, self._nobody = declared, not site.settings.operators

        return take

    def find(self, name: str) -> Person | None:
        """Find a declared person by name."""
        return self._declared.people.get(name)

    def everyone(self) -> tuple[Person, ...]:
        """List all who are declared, by name."""
        return tuple(person for _, person in sorted(self._declared.people.items()))

    def of_token_file(self, token: str) -> Person | None:
        """Tell in whose token file a token stands."""
        declared, shown = self._declared, digest(token)
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
        declared = self._declared
        mine = declared.subjects.get(subject) or declared.subjects.get(name)
        return None if mine is None else declared.people[mine]


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
