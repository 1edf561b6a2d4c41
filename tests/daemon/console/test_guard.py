"""The door of the console, on ASGI scopes and with real sessions."""

import asyncio

import nicegui
import pytest

from daemon.access.control import AccessControl
from daemon.access.sessions import SESSION_COOKIE
from daemon.console.guard import LOOK_AGAIN_AFTER, Door, Guard, session_person
from daemon.console.login_page import LoginPage
from daemon.store.database import transaction


@pytest.fixture
def access(engine, site, clock):
    return AccessControl(engine, site, clock)


@pytest.fixture
def session(access, engine):
    """The Cookie header of somebody who is logged in."""
    with transaction(engine) as opened:
        cookie = access.sessions.begin(opened, access.people.find("local"), "password")
    return f"{SESSION_COOKIE}={cookie}"


@pytest.fixture
def call(access, clock):
    """Send one request through the guard; gives back whether it passed, and what was answered."""

    def calling(path="/", *, kind="http", cookie="", origin=None, inner=None, messages=()):
        passed, sent = [], []
        coming = iter(({"type": f"{kind}.connect"}, *messages))

        async def page(scope, receive, send):
            passed.append(scope["path"])
            await send({"type": "http.response.start", "status": 200, "headers": []})

        async def receive():
            return next(coming)

        async def send(message):
            sent.append(message)

        headers = [(b"host", b"console:8642"), (b"cookie", cookie.encode())]
        headers += [(b"origin", origin.encode())] if origin else []
        scope = {"type": kind, "path": path, "headers": headers, "method": "GET", "root_path": ""}
        guard = Guard(inner or page, door=lambda: Door(access, clock, LoginPage("<b>P5</b>", "<i>SSO</i>")))
        asyncio.run(guard(scope, receive, send))
        return bool(passed), sent

    return calling


def test_a_session_opens_the_door_and_pages_carry_strict_headers(call, session):
    passed, sent = call(cookie=session)

    assert passed
    headers = dict(sent[0]["headers"])
    assert b"default-src 'self'" in headers[b"content-security-policy"]
    assert b"frame-ancestors 'none'" in headers[b"content-security-policy"]


@pytest.mark.parametrize(
    "cookie", ["", "lumiwatch_session=", "lumiwatch_session=local.9999999999.aa.bb", "a=b; ;;=,"]
)
def test_no_session_or_a_forged_one_gets_the_login_page(call, cookie):
    passed, sent = call("/incidents/anomaly-1", cookie=cookie)

    assert not passed
    assert sent[0]["status"] == 401
    headers = dict(sent[0]["headers"])
    assert b"frame-ancestors 'none'" in headers[b"content-security-policy"]
    assert headers[b"cache-control"] == b"no-store"
    page = sent[1]["body"]
    assert b"&lt;b&gt;P5&lt;/b&gt;" in page
    assert b"Log in with &lt;i&gt;SSO&lt;/i&gt;" in page
    assert b'name="next" value="/incidents/anomaly-1"' in page
    assert b"%%" not in page


def test_a_session_that_was_ended_is_none(call, session, access):
    access.sessions.end(session.partition("=")[2])

    assert not call(cookie=session)[0]
    assert session_person(access, session) is None


def test_a_session_names_its_person(access, session):
    assert session_person(access, session).name == "local"


def test_an_open_socket_is_closed_soon_after_its_session_has_ended(call, session, access, clock):
    said = {"type": "websocket.receive", "text": "2"}
    heard = []

    async def page(scope, receive, send):
        heard.extend([await receive() for _ in range(2)])
        access.sessions.end(session.partition("=")[2])
        heard.append(await receive())
        clock.move(LOOK_AGAIN_AFTER.total_seconds())
        heard.append(await receive())

    _, sent = call(
        "/_nicegui_ws/socket.io/", kind="websocket", cookie=session, inner=page, messages=[said] * 3
    )

    assert [message["type"] for message in heard] == [
        "websocket.connect", "websocket.receive", "websocket.receive", "websocket.disconnect",
    ]  # fmt: skip
    assert sent == [{"type": "websocket.close", "code": 4401, "reason": "the session has ended"}]


def test_an_open_socket_keeps_a_session_from_ending_idle(call, session, access, clock):
    said = {"type": "websocket.receive", "text": "2"}

    async def page(scope, receive, send):
        for _ in range(4):
            await receive()
            clock.move(3600)

    call("/_nicegui_ws/socket.io/", kind="websocket", cookie=session, inner=page, messages=[said] * 3)

    assert session_person(access, session) is not None


@pytest.mark.parametrize(
    ("origin", "opens"),
    [("http://console:8642", True), ("http://console:9999", False), ("http://evil", False)],
)
def test_a_socket_opens_only_for_pages_of_the_console(call, session, origin, opens):
    for kind in ("websocket", "http"):
        passed, _ = call("/_nicegui_ws/socket.io/", kind=kind, cookie=session, origin=origin)
        assert passed is opens


def test_a_socket_without_a_session_is_closed(call):
    passed, sent = call("/_nicegui_ws/socket.io/", kind="websocket")

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
def test_only_the_frameworks_own_files_are_public(call, path, public):
    assert call(path)[0] is public
