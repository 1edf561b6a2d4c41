import asyncio
from datetime import UTC, datetime, timedelta

import nicegui
import pytest

from daemon.auth import SESSION_COOKIE, Authenticator, Operator
from daemon.console.guard import Door, Guard, session_operator

NOW = datetime(2026, 7, 1, 3, 0, tzinfo=UTC)
ADA = Operator("ada")


@pytest.fixture
def authenticator():
    return Authenticator({ADA: "ada-token-0123456789"}, b"k" * 32, timedelta(hours=12))


def call(authenticator, path="/", *, kind="http", cookie="", origin=None, now=NOW):
    """Send one request through the guard; gives back whether it passed, and what was answered."""
    passed, sent = [], []

    async def inner(scope, receive, send):
        passed.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive():
        return {"type": f"{kind}.connect"}

    async def send(message):
        sent.append(message)

    headers = [(b"host", b"console:8642"), (b"cookie", cookie.encode())]
    headers += [(b"origin", origin.encode())] if origin else []
    scope = {"type": kind, "path": path, "headers": headers, "method": "GET", "root_path": ""}
    guard = Guard(inner, door=lambda: Door(authenticator, lambda: now, "<b>P5</b>"))
    asyncio.run(guard(scope, receive, send))
    return bool(passed), sent


def session(authenticator):
    return f"{SESSION_COOKIE}={authenticator.new_session(ADA, now=NOW)}"


def test_a_session_opens_the_door_and_pages_carry_strict_headers(authenticator):
    passed, sent = call(authenticator, cookie=session(authenticator))

    assert passed
    headers = dict(sent[0]["headers"])
    assert b"default-src 'self'" in headers[b"content-security-policy"]
    assert b"frame-ancestors 'none'" in headers[b"content-security-policy"]


@pytest.mark.parametrize(
    "cookie", ["", "lumiwatch_session=", "lumiwatch_session=ada.9999999999.aa.bb", "a=b; ;;=,"]
)
def test_no_session_or_a_forged_one_gets_the_login_page(authenticator, cookie):
    passed, sent = call(authenticator, cookie=cookie)

    assert not passed
    assert sent[0]["status"] == 401
    assert b"&lt;b&gt;P5&lt;/b&gt;" in sent[1]["body"]


def test_a_session_that_has_ended_is_none(authenticator):
    passed, _ = call(authenticator, cookie=session(authenticator), now=NOW + timedelta(hours=13))

    assert not passed


def test_a_session_of_another_key_is_none(authenticator):
    other = Authenticator({ADA: "ada-token-0123456789"}, b"x" * 32, timedelta(hours=12))

    assert session_operator(authenticator, session(other), now=NOW) is None
    assert session_operator(authenticator, session(authenticator), now=NOW) == ADA


@pytest.mark.parametrize(
    ("origin", "opens"),
    [("http://console:8642", True), ("http://console:9999", False), ("http://evil", False)],
)
def test_a_socket_opens_only_for_pages_of_the_console(authenticator, origin, opens):
    cookie = session(authenticator)

    for kind in ("websocket", "http"):
        passed, _ = call(authenticator, "/_nicegui_ws/socket.io/", kind=kind, cookie=cookie, origin=origin)
        assert passed is opens


def test_a_socket_without_a_session_is_closed(authenticator):
    passed, sent = call(authenticator, "/_nicegui_ws/socket.io/", kind="websocket")

    assert not passed
    assert sent == [{"type": "websocket.close", "code": 4401, "reason": "log in first"}]


@pytest.mark.parametrize(
    ("path", "public"),
    [
        (f"/_nicegui/{nicegui.__version__}/static/nicegui.js", True),
        ("/_nicegui/auto/static/picture.png", False),
        ("/_nicegui/client/abc", False),
        (f"//_nicegui/{nicegui.__version__}/x", False),
    ],
)
def test_only_the_frameworks_own_files_are_public(authenticator, path, public):
    assert call(authenticator, path)[0] is public
