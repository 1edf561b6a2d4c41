"""Speaks to a Mattermost server: as a bot over REST, or through an incoming webhook.

One call here is one HTTP request with the outcome sorted into delivered, worth repeating, or refused. A bot
account needs `create_post` and `edit_post` in its channel and nothing else.

Refuses to know what a message says, when to repeat it, and what was sent before: that is the outbox.

Source: Mattermost REST API reference, version 4 (posts, files, users).
"""

# ruff: noqa: N818 - a cause is named as people say it; the base class says that it is an error

from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

from daemon.errors import DaemonError

_TIMEOUT_S = 10.0
_RETRY_STATUS = frozenset({408, 425, 429})
_ACCESS_STATUS = frozenset({401, 403, 404})


class DeliveryError(DaemonError):
    """A message did not reach the chat."""


class DeliveryDelayed(DeliveryError):
    """The server is away or busy; the same request may succeed later.

    Attributes
    ----------
    retry_after_s
        What the server asked to wait, in seconds, or None when it did not say.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeliveryNotAllowed(DeliveryError):
    """Token, channel or permission is wrong: nothing gets through until a person mends the configuration."""


class DeliveryRefused(DeliveryError):
    """The server understood and rejects this very message; repeating it is useless.

    Attributes
    ----------
    reason_id
        Mattermost's identifier of the cause, such as ``api.post.create_post.root_id.app_error``.
    """

    def __init__(self, message: str, reason_id: str = "") -> None:
        super().__init__(message)
        self.reason_id = reason_id


class BotClient:
    """A bot account of a Mattermost server.

    Parameters
    ----------
    url
        Address of the server, such as ``https://mattermost.example.org``.
    token
        Access token of the bot account.
    timeout_s
        Longest wait for one answer.
    transport
        Replaces the network, for tests.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout_s: float = _TIMEOUT_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = httpx.Client(
            base_url=_base_url(url),
            headers={"Authorization": f"Bearer {token}", "User-Agent": "lumiwatch"},
            timeout=timeout_s,
            transport=transport,
            trust_env=False,
        )
        self._host = urlsplit(url).netloc
        self._user_id: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def user_id(self) -> str:
        """Id of the bot account; asked once (``GET /api/v4/users/me``)."""
        if self._user_id is None:
            self._user_id = _identifier(self._call("GET", "/api/v4/users/me"), "id")
        return self._user_id

    def create_post(self, body: Mapping[str, Any]) -> str:
        """Create a post (``POST /api/v4/posts``) and return its id.

        With `pending_post_id` in `body` the server answers a repetition within 30 s with the first post
        instead of a second one.

        Raises
        ------
        DeliveryDelayed, DeliveryNotAllowed, DeliveryRefused
            See there.
        """
        return _identifier(self._call("POST", "/api/v4/posts", json=dict(body)), "id")

    def patch_post(self, post_id: str, body: Mapping[str, Any]) -> str:
        """Edit a post in place (``PUT /api/v4/posts/{post_id}/patch``) and return its id."""
        path = f"/api/v4/posts/{quote(post_id, safe='')}/patch"
        return _identifier(self._call("PUT", path, json=dict(body)), "id")

    def upload_png(self, channel_id: str, name: str, content: bytes) -> str:
        """Upload a picture for a post in the same channel (``POST /api/v4/files``); return the file id."""
        answer = self._call(
            "POST",
            "/api/v4/files",
            data={"channel_id": channel_id},
            files={"files": (name, content, "image/png")},
        )
        infos = answer.get("file_infos")
        if not isinstance(infos, list) or len(infos) != 1 or not isinstance(infos[0], dict):
            raise DeliveryDelayed(
                f"Mattermost at {self._host} answered an upload without one file: is it Mattermost?"
            )
        return _identifier(infos[0], "id")

    def open_dialog(self, trigger_id: str, url: str, dialog: Mapping[str, Any]) -> None:
        """Open a form for the person whose act gave the trigger (``POST /api/v4/actions/dialogs/open``).

        Parameters
        ----------
        trigger_id
            From the press or the command; the server takes it for a few seconds and once.
        url
            Where the server posts what the person fills in.
        dialog
            Title, elements and state of the form.

        Raises
        ------
        DeliveryDelayed, DeliveryNotAllowed, DeliveryRefused
            See there; a trigger that came too late is refused.
        """
        content = {"trigger_id": trigger_id, "url": url, "dialog": dict(dialog)}
        self._call("POST", "/api/v4/actions/dialogs/open", json=content)

    def _call(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **content)
        except httpx.HTTPError as error:
            cause = type(error).__name__
            raise DeliveryDelayed(
                f"Mattermost at {self._host} cannot be reached ({cause}): check [mattermost] url"
            ) from error
        _raise_for_status(response, self._host)
        return _json_object(response, self._host)


class WebhookClient:
    """An incoming webhook: it can say something, but neither reply in a thread nor edit.

    Parameters
    ----------
    url
        The secret address Mattermost shows when the webhook is made.
    timeout_s, transport
        As in `BotClient`.
    """

    def __init__(
        self, url: str, *, timeout_s: float = _TIMEOUT_S, transport: httpx.BaseTransport | None = None
    ) -> None:
        _base_url(url)
        self._url = url
        self._host = urlsplit(url).netloc
        self._http = httpx.Client(timeout=timeout_s, transport=transport, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(self, body: Mapping[str, Any]) -> None:
        """Post once; Mattermost answers a plain ``ok``.

        Raises
        ------
        DeliveryDelayed, DeliveryNotAllowed, DeliveryRefused
            See there.
        """
        try:
            response = self._http.post(self._url, json=dict(body))
        except httpx.HTTPError as error:
            cause = type(error).__name__
            raise DeliveryDelayed(
                f"the webhook at {self._host} cannot be reached ({cause}): check webhook_url_file"
            ) from error
        _raise_for_status(response, self._host)


def _base_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise DeliveryNotAllowed(
            f"[mattermost] url {parts.scheme}://{parts.netloc} is no http(s) address: mend it"
        )
    return url.rstrip("/")


def _raise_for_status(response: httpx.Response, host: str) -> None:
    status = response.status_code
    if 200 <= status < 300:
        return
    reason, reason_id = _reason(response)
    if status in _RETRY_STATUS or status >= 500:
        raise DeliveryDelayed(f"Mattermost at {host} answered {status}: {reason}", _retry_after_s(response))
    if status in _ACCESS_STATUS:
        raise DeliveryNotAllowed(
            f"Mattermost at {host} answered {status}: {reason}; "
            "check the token, the channel id and the bot's membership"
        )
    raise DeliveryRefused(f"Mattermost at {host} refused the message ({status}): {reason}", reason_id)


def _reason(response: httpx.Response) -> tuple[str, str]:
    try:
        answer = response.json()
    except ValueError:
        return (response.text[:200].strip() or response.reason_phrase, "")
    if not isinstance(answer, dict):
        return (response.reason_phrase, "")
    return (str(answer.get("message", response.reason_phrase))[:200], str(answer.get("id", "")))


def _retry_after_s(response: httpx.Response) -> float | None:
    for header in ("Retry-After", "X-Ratelimit-Reset"):
        value = response.headers.get(header, "")
        if value.isdecimal():
            return float(value)
    return None


def _json_object(response: httpx.Response, host: str) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError as error:
        raise DeliveryDelayed(
            f"{host} answered something that is no JSON: is [mattermost] url right?"
        ) from error
    if not isinstance(answer, dict):
        raise DeliveryDelayed(f"{host} answered JSON that is no object: is [mattermost] url right?")
    return answer


def _identifier(answer: Mapping[str, Any], key: str) -> str:
    value = answer.get(key)
    if not isinstance(value, str) or not value:
        raise DeliveryDelayed(f"Mattermost's answer has no {key}: is [mattermost] url right?")
    return value
