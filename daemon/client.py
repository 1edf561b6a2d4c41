"""A small client of the daemon's API, for commands that act: approve, reject, acknowledge.

Commands that only read open the database instead and work without a daemon. Knows addresses and
tokens; what an operator may do is decided by the daemon.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

import httpx

from daemon.access.people import default_token_file
from daemon.errors import DaemonError, DaemonUnreachable, RequestRefused
from daemon.site.settings import Site

_READY_TIMEOUT_S = 2.0
_TIMEOUT_S = 30.0
TOKEN_VARIABLE = "LUMIWATCH_TOKEN_FILE"  # noqa: S105 - the name of a variable, not a secret


class Client:
    """Calls `/api/v1` of one daemon as one operator.

    Parameters
    ----------
    base_url
        Where the daemon listens, without a trailing slash.
    token
        The operator's token.
    """

    def __init__(self, base_url: str, token: str) -> None:
        self.base_url = base_url
        self._http = httpx.Client(
            base_url=f"{base_url}/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=_TIMEOUT_S,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **query: str | int) -> Any:
        """Fetch a JSON document.

        Raises
        ------
        DaemonUnreachable, RequestRefused
            Nobody answers; or the daemon says no, with its reason.
        """
        return self._call("GET", path, params=query)

    def post(self, path: str, content: dict[str, Any], *, timeout_s: float = _TIMEOUT_S) -> Any:
        """Send a JSON document; returns the answer. Raises as `get`."""
        return self._call("POST", path, json=content, timeout=timeout_s)

    def delete(self, path: str) -> Any:
        """End what a path names; returns the answer. Raises as `get`."""
        return self._call("DELETE", path)

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            answer = self._http.request(method, path, **arguments)
        except httpx.TransportError as error:
            raise DaemonUnreachable(
                f"no daemon answers at {self.base_url} ({error}): start it with `lumiwatch up`"
            ) from error
        if answer.is_error:
            raise RequestRefused(_reason(answer))
        return answer.json() if answer.content else None


def connect(site: Site) -> Client:
    """Make a client for the site's daemon, as the operator whose token is at hand.

    The daemon is found by the address that it announces on this machine, else by the site's settings. The
    token is in the file that `LUMIWATCH_TOKEN_FILE` names, or else is that of `local`.

    Raises
    ------
    DaemonError
        There is no token to read.
    """
    return Client(_address(site), token_at_hand(site))


def browser_link(site: Site) -> str:
    """Give the link that opens the console for the operator whose token is at hand. Raises as `connect`."""
    return f"{_address(site)}/login?token={token_at_hand(site)}"


def token_at_hand(site: Site, token_file: Path | None = None) -> str:
    """Read the token in a file, or else in that of `LUMIWATCH_TOKEN_FILE`, or else that of `local`.

    Raises
    ------
    DaemonError
        There is no token to read.
    """
    named = os.environ.get(TOKEN_VARIABLE)
    token_file = token_file or (Path(named) if named else default_token_file(site))
    try:
        token = token_file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise DaemonError(
            f"{token_file}: no operator token ({error.strerror}); start the daemon, or set {TOKEN_VARIABLE}"
        ) from error
    except UnicodeDecodeError:
        token = ""
    if not token or not token.isprintable():
        raise DaemonError(
            f"{token_file}: holds no operator token; name the right file in {TOKEN_VARIABLE}, or unset it"
        )
    return token


def is_running(site: Site) -> bool:
    """Tell whether a daemon of this site answers on this machine."""
    if not site.address_file.exists():
        return False
    try:
        httpx.get(f"{_address(site)}/-/ready", timeout=_READY_TIMEOUT_S, trust_env=False)
    except httpx.TransportError:
        return False
    return True


def _address(site: Site) -> str:
    try:
        return site.address_file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return site.console_url()


def _reason(answer: httpx.Response) -> str:
    try:
        content = answer.json()
    except ValueError:
        content = None
    detail = content.get("detail") if isinstance(content, dict) else None
    return str(detail) if detail else f"the daemon answered {answer.status_code} to {answer.request.url.path}"
