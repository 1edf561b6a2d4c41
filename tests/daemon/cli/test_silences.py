"""Silences over HTTP and by command, on a daemon of its own."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from daemon.incidents.intake import take_verdict
from daemon.operations import utc_now
from daemon.site.settings import load_site
from daemon.store.database import open_database
from tests.daemon.process.test_service import served
from tests.support.daemon import copy_site, make_verdict

HOUR = timedelta(hours=1)
PEOPLE = {"ada": "operator", "vera": "viewer"}


def soon():
    return (datetime.now(UTC) + HOUR).isoformat()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """Serve a site with an incident, an operator and a viewer; yields its folder and a nameless client."""
    folder = copy_site(tmp_path_factory.mktemp("silences"))
    with (folder / "lumiwatch.toml").open("a") as file:
        for name, role in PEOPLE.items():
            token = folder / f"{name}-token"
            token.write_text(f"{name}-0123456789abcdef")
            token.chmod(0o600)
            file.write(f'\n[operators.{name}]\nrole = "{role}"\ntoken_file = "{name}-token"\n')
    model = folder / "models" / "anomaly" / "model.toml"
    model.write_text(model.read_text().replace('approvers = ["local"]', 'approvers = ["ada"]'))
    site = load_site(folder)
    engine = open_database(site.database_url)
    take_verdict(engine, site, make_verdict(62), now=utc_now())
    engine.dispose()
    default = site.secrets_dir / "operator-local-token"
    default.parent.mkdir(exist_ok=True)
    default.write_text("of nobody here")
    with served(site) as (_, client):
        del client.headers["Authorization"]
        yield folder, client


@pytest.fixture
def ask(running):
    """Ask the API in somebody's name."""
    _, client = running

    def run(method, path, content=None, *, who="ada"):
        headers = {"Authorization": f"Bearer {who}-0123456789abcdef"} if who else {}
        return client.request(method, f"/api/v1/silences{path}", json=content, headers=headers)

    return run


def test_a_silence_is_made_listed_and_ended(ask):
    made = ask("POST", "", {"reason": "timing scan", "ends_at": soon(), "model": "anomaly"})
    assert made.status_code == 201
    silence = made.json()
    assert (silence["author"], silence["model"], silence["family"]) == ("ada", "anomaly", None)
    assert silence in ask("GET", "?active=true", who="vera").json()

    ended = ask("DELETE", f"/{silence['id']}")

    assert ended.status_code == 200
    assert ended.json()["ended_by"] == "ada"
    assert ask("GET", "?active=true").json() == []
    again = ask("DELETE", f"/{silence['id']}")
    assert (again.status_code, again.json()["error"]) == (409, "NotPossibleNow")


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", ""), ("DELETE", "/silence-1")])
def test_nobody_without_a_token_comes_near(ask, method, path):
    assert ask(method, path, {"reason": "x", "ends_at": soon()}, who=None).status_code == 401


def test_a_viewer_may_look_and_no_more(ask):
    assert ask("GET", "", who="vera").status_code == 200
    refused = ask("POST", "", {"reason": "x", "ends_at": soon()}, who="vera")
    assert refused.status_code == 403
    assert "vera may not silence alerts" in refused.json()["detail"]
    assert ask("DELETE", "/silence-1", who="vera").status_code == 403


@pytest.mark.parametrize(
    "content",
    [
        {"ends_at": "2099-01-01T00:00:00Z"},
        {"reason": "x"},
        {"reason": "x", "ends_at": "2099-01-01T00:00:00"},
        {"reason": "x", "ends_at": "2099-01-01T00:00:00Z"},
        {"reason": "x", "ends_at": "2020-01-01T00:00:00Z"},
        {"reason": "x", "ends_at": "9999-12-31T23:59:59-14:00"},
        {"reason": "x", "starts_at": "0001-01-01T00:00:00+14:00", "ends_at": "2099-01-01T00:00:00Z"},
        {"reason": "\x00", "ends_at": soon()},
        {"reason": "x" * 501, "ends_at": "2099-01-01T00:00:00Z"},
        {"reason": "x", "ends_at": "2099-01-01T00:00:00Z", "author": "somebody else"},
    ],
)
def test_what_makes_no_silence_is_refused(ask, content):
    before = ask("GET", "").json()

    assert ask("POST", "", content).status_code == 422

    assert ask("GET", "").json() == before


def test_an_unknown_silence_is_not_found(ask):
    assert ask("DELETE", "/silence-99").status_code == 404


def test_the_commands_make_show_and_end(running, lumiwatch, monkeypatch):
    folder, _ = running
    monkeypatch.setenv("LUMIWATCH_TOKEN_FILE", str(folder / "ada-token"))
    made = lumiwatch(
        "silences", "create", "--site", folder, "--for", "2h", "--model", "anomaly", "-m", "scan", "--json"
    )
    assert made.code == 0
    silence = json.loads(made.out)["id"]

    (listed,) = json.loads(lumiwatch("silences", "--site", folder, "--json").out)
    assert (listed["id"], listed["reason"]) == (silence, "scan")
    assert silence in lumiwatch("silences", "list", "--site", folder).out
    (incident,) = json.loads(lumiwatch("incidents", "--site", folder, "--json").out)
    assert incident["silenced_by"] == silence
    assert "until" in lumiwatch("incidents", "--site", folder).out
    assert "by ada: scan" in lumiwatch("incidents", "show", "anomaly-1", "--site", folder).out

    assert lumiwatch("silences", "end", silence, "--site", folder).out == f"{silence} ended\n"
    assert lumiwatch("silences", "--site", folder).out == "silences (UTC): none\n"
    assert "has ended at" in lumiwatch("silences", "end", silence, "--site", folder).line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--for", "2h", "--until", "2099-01-01T00:00"), "give --for or --until, one of them"),
        ((), "give --for or --until, one of them"),
        (("--for", "long"), "'long' is no length: write for instance 45m, 2h or 3d"),
        (("--for", "31d"), "at most 30 days"),
        (("--for", "1h", "--model", "stranger"), "no model 'stranger'"),
    ],
)
def test_commands_that_make_no_silence_say_why(running, lumiwatch, monkeypatch, options, words):
    folder, _ = running
    monkeypatch.setenv("LUMIWATCH_TOKEN_FILE", str(folder / "ada-token"))

    assert words in lumiwatch("silences", "create", "--site", folder, "-m", "scan", *options).line
