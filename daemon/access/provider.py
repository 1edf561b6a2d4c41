"""One OpenID Connect provider: its addresses, its keys, and what its identity tokens say.

Discovery (OpenID Connect Discovery 1.0), the token request with PKCE (RFC 7636), and the checks of an
identity token (OpenID Connect Core 1.0, section 3.1.3.7). Refuses to know who may log in here.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import httpx
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from pydantic import BaseModel, ValidationError

from daemon.access.oidc_settings import OidcSettings, is_private
from daemon.errors import NotAuthenticated, ProviderAway

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""Signatures that are believed: those that only the provider can make."""
LEEWAY_S: Final = 60
_KEPT: Final = timedelta(hours=1)
_ASK_AGAIN_AFTER: Final = timedelta(seconds=10)


@dataclass(frozen=True)
class Identity:
    """Somebody as the provider knows them.

    Attributes
    ----------
    subject
        The provider's own identifier, which never changes.
    name
        Value of the claim that names people.
    roles
        In the provider's words.
    """

    subject: str
    name: str
    full_name: str
    roles: frozenset[str]


class _Metadata(BaseModel):
    """What discovery says, as far as we use it."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str


@dataclass(frozen=True)
class _Known:
    metadata: _Metadata
    keys: KeySet
    at: datetime


class Provider:
    """Speaks to the provider of `[oidc]`.

    Parameters
    ----------
    settings
        Keys of lumiwatch.toml.
    client_secret
        None for a public client.
    clock
        Gives aware UTC.
    """

    def __init__(
        self, settings: OidcSettings, client_secret: str | None, clock: Callable[[], datetime]
    ) -> None:
        self._settings = settings
        self._secret = client_secret
        self._clock = clock
        self._known: _Known | None = None
        self._failed_at: datetime | None = None
        self._asking = Lock()

    def login_url(self, *, redirect_uri: str, state: str, nonce: str, challenge: str) -> str:
        """Give the address where a browser logs in.

        Raises
        ------
        ProviderAway
            It does not answer, or not as a provider should.
        """
        query = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self._settings.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        endpoint = self._ask().metadata.authorization_endpoint
        return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(query)}"

    def identity_token(self, code: str, *, redirect_uri: str, verifier: str) -> str:
        """Exchange a code, which is good once, for an identity token, which is not checked yet.

        Raises
        ------
        NotAuthenticated
            The provider refuses the code.
        ProviderAway
            It does not answer, or not as a provider should.
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        auth = None
        if self._secret is None:
            form["client_id"] = self._settings.client_id
        else:
            auth = (quote(self._settings.client_id, safe=""), quote(self._secret, safe=""))
        endpoint = self._ask().metadata.token_endpoint
        try:
            answer = httpx.post(endpoint, data=form, auth=auth, timeout=self._settings.timeout_s)
        except httpx.HTTPError as error:
            raise self._away(type(error).__name__) from error
        if answer.status_code in {400, 401, 403}:
            raise NotAuthenticated(f"{self._settings.display} refused the login: try again")
        content = self._document(answer)
        token = content.get("id_token")
        if not isinstance(token, str):
            raise self._away("no identity token came")
        return token

    def identity(self, token: str, *, nonce: str) -> Identity:
        """Check an identity token and read it.

        Raises
        ------
        NotAuthenticated
            It is not the provider's, not for us, not of this login, over, or names nobody.
        ProviderAway
            The provider does not answer.
        """
        claims = self._claims(token)
        settings = self._settings
        wanted = jwt.JWTClaimsRegistry(
            now=int(self._clock().timestamp()),
            leeway=LEEWAY_S,
            iss={"essential": True, "value": settings.issuer},
            aud={"essential": True, "value": settings.client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True},
        )
        try:
            wanted.validate(claims)
        except JoseError as error:
            raise self._not_believed(str(error)) from error
        if not hmac.compare_digest(str(claims["nonce"]).encode(), nonce.encode()):
            raise self._not_believed("it belongs to another login")
        alone = claims["aud"] in (settings.client_id, [settings.client_id])
        if claims.get("azp", settings.client_id if alone else None) != settings.client_id:
            raise self._not_believed("it was made for another program")
        name = claims.get(settings.name_claim)
        if not isinstance(name, str) or not name:
            raise self._not_believed(f"it has no claim {settings.name_claim}")
        full_name = claims.get("name")
        return Identity(
            subject=claims["sub"],
            name=name,
            full_name=full_name[:100] if isinstance(full_name, str) and full_name.isprintable() else "",
            roles=_words(claims.get(settings.roles_claim)),
        )

    def _claims(self, token: str) -> dict[str, Any]:
        """Check the signature. An unknown key may be a new one: then the provider is asked again, once."""
        known = self._ask()
        try:
            return jwt.decode(token, known.keys, algorithms=ALGORITHMS).claims
        except InvalidKeyIdError:
            known = self._ask(not_before=known.at + _ASK_AGAIN_AFTER)
        except (JoseError, ValueError) as error:
            raise self._not_believed("its signature is not the provider's") from error
        try:
            return jwt.decode(token, known.keys, algorithms=ALGORITHMS).claims
        except (JoseError, ValueError) as error:
            raise self._not_believed("its signature is not the provider's") from error

    def _ask(self, *, not_before: datetime | None = None) -> _Known:
        """Give what is known of the provider; ask it where that is nothing, or old."""
        with self._asking:
            now = self._clock()
            if self._known is not None:
                again = self._known.at + _KEPT if not_before is None else not_before
                if now < again:
                    return self._known
            if self._failed_at is not None and now - self._failed_at < _ASK_AGAIN_AFTER:
                raise self._away("asked a moment ago")
            try:
                self._known = self._discover(now)
            except ProviderAway:
                self._failed_at = now
                raise
            self._failed_at = None
            return self._known

    def _discover(self, now: datetime) -> _Known:
        issuer = self._settings.issuer
        try:
            metadata = _Metadata.model_validate(
                self._get(issuer.rstrip("/") + "/.well-known/openid-configuration")
            )
        except ValidationError as error:
            raise self._away("its discovery document lacks something") from error
        if metadata.issuer != issuer:
            raise self._away(f"it calls itself {metadata.issuer!r}")
        for url in (metadata.authorization_endpoint, metadata.token_endpoint, metadata.jwks_uri):
            if not is_private(url):
                raise self._away("it would speak unencrypted")
        document: Any = self._get(metadata.jwks_uri)
        try:
            keys = KeySet.import_key_set(document)
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise self._away("its keys cannot be read") from error
        return _Known(metadata, keys, now)

    def _get(self, url: str) -> dict[str, Any]:
        try:
            answer = httpx.get(url, timeout=self._settings.timeout_s)
        except httpx.HTTPError as error:
            raise self._away(type(error).__name__) from error
        return self._document(answer)

    def _document(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            content = answer.json() if answer.is_success else None
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise self._away(f"it answered {answer.status_code}")
        return content

    def _away(self, cause: str) -> ProviderAway:
        name = self._settings.display
        return ProviderAway(
            f"{name} does not answer as it should ({cause}): log in with name and password, or try again"
        )

    def _not_believed(self, cause: str) -> NotAuthenticated:
        return NotAuthenticated(f"what {self._settings.display} sent is not believed: {cause}")


def _words(claim: object) -> frozenset[str]:
    """Read a claim of roles: a list of words, or words with spaces between."""
    if isinstance(claim, str):
        return frozenset(claim.split())
    if isinstance(claim, list):
        return frozenset(word for word in claim if isinstance(word, str))
    return frozenset()
