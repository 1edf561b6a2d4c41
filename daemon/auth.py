"""Who is calling: operator tokens and the console's login session.

A token belongs to one named operator. The console's session is a signed cookie that names the
operator and an end. What an operator may do is not decided here (see `policy`).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from daemon.errors import NotAuthenticated, SettingsError
from daemon.settings import Site

SESSION_COOKIE = "lumiwatch_session"
DEFAULT_OPERATOR = "local"
_MINIMUM_TOKEN_LENGTH = 16
_SESSION_KEY_BYTES = 32


@dataclass(frozen=True)
class Operator:
    """A person (or a policy) that acts; the name is what approvers lists hold."""

    name: str
    full_name: str = ""


class Authenticator:
    """Knows the operators of a site and tells who a token or a session belongs to.

    Parameters
    ----------
    tokens
        Token of each operator, by operator.
    session_key
        Secret that signs sessions.
    session_life
        How long a login lasts.
    """

    def __init__(self, tokens: Mapping[Operator, str], session_key: bytes, session_life: timedelta) -> None:
        # only digests are kept in memory, so a token cannot leak through a dump of this object
        self._digests = {operator: _digest(token) for operator, token in tokens.items()}
        self._by_name = {operator.name: operator for operator in tokens}
        self._session_key = session_key
        self.session_life = session_life

    @property
    def operators(self) -> tuple[Operator, ...]:
        """Everyone who can log in."""
        return tuple(self._digests)

    def operator_of_token(self, token: str) -> Operator:
        """Tell whose token this is.

        Raises
        ------
        NotAuthenticated
            Nobody's.
        """
        shown = _digest(token)
        found: Operator | None = None
        for operator, digest in self._digests.items():  # all of them: the time must not tell which one
            if hmac.compare_digest(shown, digest):
                found = operator
        if found is None:
            raise NotAuthenticated(
                "unknown token: use the login link that the daemon prints, or your token file"
            )
        return found

    def new_session(self, operator: Operator, *, now: datetime) -> str:
        """Make the cookie value of a login that starts now."""
        ends = int((now + self.session_life).timestamp())
        body = f"{operator.name}.{ends}.{secrets.token_hex(8)}"
        return f"{body}.{self._sign(body)}"

    def operator_of_session(self, cookie: str, *, now: datetime) -> Operator:
        """Tell whose session this is.

        Raises
        ------
        NotAuthenticated
            Forged, ended, or of an operator who is no longer configured.
        """
        body, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(body).encode()):
            raise NotAuthenticated("unknown session: log in again with the login link")
        name, ends, _ = body.split(".")  # signed by us: it has this form
        if int(ends) <= now.timestamp():
            raise NotAuthenticated("the session has ended: log in again with the login link")
        operator = self._by_name.get(name)
        if operator is None:
            raise NotAuthenticated(f"operator {name!r} is no longer configured at this site")
        return operator

    def _sign(self, body: str) -> str:
        return hmac.new(self._session_key, body.encode(), hashlib.sha256).hexdigest()


def load_authenticator(site: Site) -> Authenticator:
    """Read every operator's token; without operators, make the operator `local` and its token.

    Raises
    ------
    SettingsError
        A token file is missing, readable by others, too short, or shared by two operators.
    """
    configured = site.settings.operators
    tokens: dict[Operator, str] = {}
    if not configured:
        tokens[Operator(DEFAULT_OPERATOR)] = read_or_make_secret(default_token_file(site))
    for name, operator in configured.items():
        tokens[Operator(name, operator.full_name)] = _read_token(site.path(operator.token_file), name)
    if len(set(tokens.values())) < len(tokens):
        raise SettingsError("two operators share one token: give each [operators.<name>] a token of its own")
    session_key = read_or_make_secret(site.secrets_dir / "session-key")
    life = timedelta(hours=site.settings.console.session_hours)
    return Authenticator(tokens, bytes.fromhex(session_key), life)


def default_token_file(site: Site) -> Path:
    """Give the place of the token of the operator `local`."""
    return site.secrets_dir / f"operator-{DEFAULT_OPERATOR}-token"


def read_or_make_secret(path: Path) -> str:
    """Read a secret of 32 random bytes in hex; make it (mode 0600) when there is none.

    Raises
    ------
    SettingsError
        The file cannot be read or made.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(_SESSION_KEY_BYTES) + "\n")
        try:
            os.link(temporary, path)  # fails when the secret exists: the first process wins
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be read or made ({error}); check the rights of state_dir"
        ) from error


def _read_token(path: Path, name: str) -> str:
    key = f"operators.{name}.token_file"
    try:
        token = path.read_text(encoding="utf-8").strip()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path}: cannot be read ({error}); key {key} of lumiwatch.toml names it"
        ) from error
    if mode & 0o077:
        raise SettingsError(f"{path}: others can read this token; run `chmod 600 {path}` (key {key})")
    if len(token) < _MINIMUM_TOKEN_LENGTH:
        raise SettingsError(
            f"{path}: the token is shorter than {_MINIMUM_TOKEN_LENGTH} characters; "
            f"make one with `openssl rand -hex 32 > {path}` (key {key})"
        )
    return token


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
