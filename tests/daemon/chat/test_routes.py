import json
from urllib.parse import urlencode

import httpx
import pytest

from daemon.chat.routes import LARGEST_BODY
from tests.daemon.chat.conftest import ADA, CALLBACK, COMMAND_TOKEN

PRESS = {"user_id": ADA, "channel_id": "replay-channel", "post_id": "post1", "context": {}}
FORM = {"state": "", "user_id": ADA, "channel_id": "replay-channel", "submission": {}}
TOKEN = {"Authorization": f"Token {COMMAND_TOKEN}"}


@pytest.fixture
def post(room):
    def send(path, content, headers=None):
        url = f"{CALLBACK}/chat/mattermost/{path}"
        return room.server.reach(httpx.Request("POST", url, content=content, headers=headers))

    return send


MALFORMED = [
    b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}", b"[" * 60_000, json.dumps(PRESS | {"user_id": 7}).encode(),
    json.dumps(PRESS | {"context": "x"}).encode(), json.dumps({"user_id": ADA}).encode(),
]  # fmt: skip


@pytest.mark.parametrize("path", ["actions", "dialogs"])
@pytest.mark.parametrize("content", MALFORMED)
def test_what_mattermost_would_not_send_is_refused(room, post, path, content):
    assert post(path, content).status_code == 400
    assert room.refused() == {"malformed": 1}


@pytest.mark.parametrize("path", ["actions", "dialogs", "commands"])
def test_too_large_a_body_is_refused(room, post, path):
    assert post(path, b" " * (LARGEST_BODY + 1), TOKEN).status_code == 413
    assert room.refused() == {"malformed": 1}


@pytest.mark.parametrize("content", [b"\xff", b"text=%FF", "&".join("a=1" for _ in range(1001)).encode()])
def test_what_is_no_form_is_refused(room, post, content):
    assert post("commands", content, TOKEN).status_code == 400
    assert room.refused() == {"malformed": 1}


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (f"Token {COMMAND_TOKEN}", "another"),
        ("Token another", COMMAND_TOKEN),
        (f"Bearer {COMMAND_TOKEN}", COMMAND_TOKEN),
        (COMMAND_TOKEN, COMMAND_TOKEN),
        ("", COMMAND_TOKEN),
        (f"Token {COMMAND_TOKEN}", ""),
        ("", ""),
        ("Token ", ""),
    ],
)
def test_a_command_without_the_token_is_refused(room, post, header, token):
    form = urlencode({"token": token, "user_id": ADA, "text": "help"}).encode()

    answer = post("commands", form, {"Authorization": header})

    assert answer.status_code == 401
    assert "lumiwatch status" not in answer.text
    assert room.refused() == {"token": 1}


def test_a_token_given_twice_is_none(post):
    form = urlencode([("token", COMMAND_TOKEN), ("token", COMMAND_TOKEN), ("user_id", ADA), ("text", "help")])

    assert post("commands", form.encode(), TOKEN).status_code == 401


def test_a_session_or_a_bearer_token_is_not_what_counts(room, post):
    answer = post("actions", json.dumps(PRESS).encode(), {"Authorization": "Bearer x", "Cookie": "a=b"})

    assert answer.status_code == 200
    assert "nothing was done" in answer.json()["ephemeral_text"]
    assert room.refused() == {"forged": 1}


def test_a_form_that_is_not_ours_says_so_in_the_form(room, post):
    answer = post("dialogs", json.dumps(FORM).encode())

    assert answer.status_code == 200
    assert "nothing was done" in answer.json()["error"]
    assert room.refused() == {"forged": 1}


def test_refusals_are_counted_from_zero(room):
    series = room.services.metrics.render().decode()

    assert 'lumiwatch_chat_refused_total{reason="forged"} 0.0' in series
    assert 'lumiwatch_chat_refused_total{reason="unlisted"} 0.0' in series
