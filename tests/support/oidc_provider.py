"""A small OpenID Connect provider: real HTTP, keys and redirects on loopback; it misbehaves when told to.

Whoever comes is logged in as `claims` says: there is no password to type.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any
from urllib.parse import unquote, urlencode

from fastapi import FastAPI, Form, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.security import HTTPBasic
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from tests.support.access import listening

CLIENT, SECRET = "lumiwatch", "client-secret-0123456789"


@cache
def first_key() -> RSAKey:
    """Make the key that every provider begins with."""
    return new_key("one")


def new_key(identity: str) -> RSAKey:
    """Make another key."""
    return RSAKey.generate_key(2048, {"kid": identity, "use": "sig"})


@dataclass
class Grant:
    """What a code stands for."""

    nonce: str
    challenge: str
    redirect_uri: str


@dataclass
class OidcProvider:
    """The provider, and what it is told to do wrong.

    Attributes
    ----------
    claims
        Of the person who logs in.
    wrong
        Claims that replace the right ones in the next tokens.
    published
        Keys that it shows; those that it signs with are `signing`.
    """

    claims: dict[str, Any] = field(default_factory=lambda: {"sub": "s-1", "preferred_username": "ada"})
    wrong: dict[str, Any] = field(default_factory=dict)
    signing: RSAKey = field(default_factory=first_key)
    published: list[RSAKey] = field(default_factory=list)
    algorithm: str = "RS256"
    metadata: dict[str, Any] = field(default_factory=dict)
    away: bool = False
    issuer: str = ""
    asked: list[str] = field(default_factory=list)
    codes: dict[str, Grant] = field(default_factory=dict)

    def sign_anew(self) -> None:
        """Take a new key into use and show it."""
        self.signing = new_key(secrets.token_hex(4))
        self.published = [self.signing]

    def token(self, grant: Grant) -> str:
        """Make an identity token."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "nonce": grant.nonce,
            **self.claims,
            **self.wrong,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        header = {"alg": self.algorithm, "kid": self.signing.kid}
        if self.algorithm == "RS256":
            return jwt.encode(header, claims, self.signing)
        parts = [_encoded(json.dumps(part).encode()) for part in (header, claims)]
        return ".".join([*parts, self._forged(".".join(parts))])

    def _forged(self, signed: str) -> str:
        """Sign not at all, or as if the public key were a shared secret, which a careless client believes."""
        if self.algorithm == "none":
            return ""
        return _encoded(hmac.digest(self.signing.as_pem(private=False), signed.encode(), "sha256"))


def _encoded(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def _application(provider: OidcProvider) -> FastAPI:
    app = FastAPI()

    @app.middleware("http")
    async def note(request: Request, call_next: Any) -> Response:
        provider.asked.append(request.url.path)
        if provider.away:
            return Response(status_code=502)
        return await call_next(request)

    @app.get("/.well-known/openid-configuration")
    def discovery() -> dict[str, Any]:
        return {
            "issuer": provider.issuer,
            "authorization_endpoint": f"{provider.issuer}/authorize",
            "token_endpoint": f"{provider.issuer}/token",
            "jwks_uri": f"{provider.issuer}/keys",
            **provider.metadata,
        }

    @app.get("/keys")
    def keys() -> Any:
        return KeySet(provider.published).as_dict(private=False)

    @app.get("/authorize")
    def authorize(
        client_id: str, redirect_uri: str, state: str, nonce: str, code_challenge: str,
        code_challenge_method: str, response_type: str, scope: str,
    ) -> Response:  # fmt: skip
        assert (client_id, response_type, code_challenge_method) == (CLIENT, "code", "S256")
        assert "openid" in scope.split()
        code = secrets.token_urlsafe(16)
        provider.codes[code] = Grant(nonce, code_challenge, redirect_uri)
        return RedirectResponse(
            f"{redirect_uri}?{urlencode({'code': code, 'state': state})}", status_code=302
        )

    basic = HTTPBasic()

    @app.post("/token")
    async def exchange(
        request: Request,
        code: Annotated[str, Form()],
        code_verifier: Annotated[str, Form()],
        redirect_uri: Annotated[str, Form()],
        grant_type: Annotated[str, Form()],
    ) -> Response:
        shown = await basic(request)
        assert shown is not None
        grant = provider.codes.pop(code, None)  # a code is good once
        challenge = _encoded(hashlib.sha256(code_verifier.encode()).digest())
        good = (unquote(shown.username), unquote(shown.password), grant_type) == (
            CLIENT,
            SECRET,
            "authorization_code",
        )
        if grant is None or not good or (challenge, redirect_uri) != (grant.challenge, grant.redirect_uri):
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        return JSONResponse(
            {"access_token": "not-used", "token_type": "Bearer", "id_token": provider.token(grant)}
        )

    return app


@contextmanager
def oidc_provider() -> Iterator[OidcProvider]:
    """Run a provider until the block ends."""
    provider = OidcProvider()
    provider.published = [provider.signing]
    with listening(_application(provider)) as url:
        provider.issuer = url
        yield provider
