"""Single sign-on: sends browsers to the provider, and says who comes back from there.

What belongs to a login under way travels in the browser, in a signed cookie that no other browser has; the
key is of this process alone. The role of somebody who is declared is that of lumiwatch.toml, whatever the
provider says; somebody who is not gets what the provider's roles mean here, or is sent away.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from daemon.access.oidc_settings import OidcSettings
from daemon.access.people import RESERVED, People, Person
from daemon.access.provider import Identity, Provider
from daemon.access.roles import highest
from daemon.access.secret_files import read_private_secret
from daemon.errors import NotAuthenticated, NotPermitted
from daemon.site.settings import Site

LIFE_S: Final = 600
"""How long a login at the provider may take."""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_ALGORITHM: Final = "HS256"


@dataclass(frozen=True)
class Departure:
    """A browser on its way to the provider.

    Attributes
    ----------
    url
        Where it goes.
    cookie
        What it brings back.
    """

    url: str
    cookie: str


@dataclass(frozen=True)
class Arrival:
    """Somebody who has come back, and the page that they wanted."""

    person: Person
    place: str


class SignOn:
    """Lets a provider say who somebody is.

    Parameters
    ----------
    provider
        Speaks to it.
    people
        Who is declared.
    settings
        Keys of `[oidc]`.
    clock
        Gives aware UTC.
    """

    def __init__(
        self, provider: Provider, people: People, settings: OidcSettings, clock: Callable[[], datetime]
    ) -> None:
        self._settings = settings
        self._provider = provider
        self._people = people
        self._clock = clock
        self._key = OctKey.generate_key(256)

    @property
    def display(self) -> str:
        """What people call the provider."""
        return self._settings.display

    def depart(self, *, redirect_uri: str, place: str) -> Departure:
        """Send a browser to the provider.

        Parameters
        ----------
        redirect_uri
            Where the provider sends it back to.
        place
            The page that it wants in the end.

        Raises
        ------
        ProviderAway
            The provider does not answer.
        """
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        challenge = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        url = self._provider.login_url(
            redirect_uri=redirect_uri, state=state, nonce=nonce, challenge=challenge
        )
        claims = {
            "state": state,
            "nonce": nonce,
            "verifier": verifier,
            "place": place,
            "exp": int(self._clock().timestamp()) + LIFE_S,
        }
        return Departure(url, jwt.encode({"alg": _ALGORITHM}, claims, self._key))

    def arrive(self, query: Mapping[str, str], cookie: str | None, *, redirect_uri: str) -> Arrival:
        """Say who has come back.

        Parameters
        ----------
        query
            What the provider has put into the address.
        cookie
            That of the departure.
        redirect_uri
            As at the departure.

        Raises
        ------
        NotAuthenticated
            It is not the browser that departed, the login was not made, or what came is not believed.
        NotPermitted
            The provider knows this person, and this site does not let them in.
        ProviderAway
            The provider does not answer.
        """
        departure = self._read(cookie)
        if not hmac.compare_digest(departure["state"].encode(), query.get("state", "").encode()):
            raise NotAuthenticated("this login was begun elsewhere, or long ago: begin it again")
        if query.get("iss", self._settings.issuer) != self._settings.issuer:
            raise NotAuthenticated("another provider answered: begin the login again")
        code = query.get("code")
        if not code or "error" in query:
            raise NotAuthenticated(f"{self.display} has not logged you in: begin the login again")
        token = self._provider.identity_token(code, redirect_uri=redirect_uri, verifier=departure["verifier"])
        identity = self._provider.identity(token, nonce=departure["nonce"])
        return Arrival(self._admit(identity), departure["place"])

    def _read(self, cookie: str | None) -> dict[str, str]:
        try:
            claims = jwt.decode(cookie or "", self._key, algorithms=[_ALGORITHM]).claims
            jwt.JWTClaimsRegistry(now=int(self._clock().timestamp())).validate(claims)
        except (JoseError, ValueError) as error:
            raise NotAuthenticated("this login was begun elsewhere, or long ago: begin it again") from error
        return {name: str(value) for name, value in claims.items()}

    def _admit(self, identity: Identity) -> Person:
        declared = self._people.of_identity(identity.subject, identity.name)
        if declared is not None:
            return declared
        name = identity.name
        if not _NAME.fullmatch(name) or name in RESERVED or self._people.find(name) is not None:
            raise NotPermitted(
                f"{self.display} calls you by a name that stands for somebody else here, or cannot be used: "
                "ask for an entry under [operators] with your subject"
            )
        role = highest(
            frozenset(role for word, role in self._settings.roles.items() if word in identity.roles)
        )
        if role is None:
            offered = ", ".join(sorted(self._settings.roles))
            raise NotPermitted(
                f"{name} has no role at this site: ask for an entry under [operators]"
                + (f", or for one of these at {self.display}: {offered}" if offered else "")
            )
        return Person(name, identity.full_name, role, declared=False)


class Entrance:
    """Single sign-on as it is configured now.

    Parameters and errors as of `build_sign_on`.
    """

    def __init__(self, site: Site, people: People, clock: Callable[[], datetime]) -> None:
        self._people, self._clock = people, clock
        self._settings = site.settings.oidc
        self.sign_on = build_sign_on(site, people, clock)

    @property
    def display(self) -> str | None:
        """What people call the provider; None without one."""
        return None if self.sign_on is None else self.sign_on.display

    def prepare(self, site: Site) -> Callable[[], None]:
        """Build what a new configuration asks for; returns what puts it in place, which cannot fail.

        A login that is under way at the provider goes on if nothing of it has changed, and else begins again.

        Raises
        ------
        SettingsError
            As at the start. Nothing has changed.
        """
        if site.settings.oidc == self._settings:
            return lambda: None
        sign_on = build_sign_on(site, self._people, self._clock)

        def take() -> None:
            self._settings, self.sign_on = site.settings.oidc, sign_on

        return take


def build_sign_on(site: Site, people: People, clock: Callable[[], datetime]) -> SignOn | None:
    """Make single sign-on from a site's settings; None where it has none.

    Raises
    ------
    SettingsError
        The client's secret cannot be read.
    """
    settings = site.settings.oidc
    if settings is None:
        return None
    secret = None
    if settings.client_secret_file is not None:
        secret = read_private_secret(site.path(settings.client_secret_file), key="oidc.client_secret_file")
    return SignOn(Provider(settings, secret, clock), people, settings, clock)
