"""`lumiwatch users`, `tokens`, and commands that ask whose token it is."""

import getpass
import json
import os
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import Session, select

from daemon.access.control import AccessControl
from daemon.client import TOKEN_VARIABLE
from daemon.errors import NotAuthenticated
from daemon.operations import utc_now
from daemon.site.settings import load_site
from daemon.store.database import open_database
from daemon.store.records import EventRecord
from streams.store.records import ReferenceRow
from tests.support.access import declare

PASSWORD = "correct horse battery"


@pytest.fixture
def people(site):
    """The site, with one person of each role."""
    declare(site)
    return site


@pytest.fixture
def engine(people):
    opened = open_database(load_site(people).database_url)
    yield opened
    opened.dispose()


@pytest.fixture
def access(people, engine):
    return AccessControl(engine, load_site(people), utc_now)


@pytest.fixture
def reference(engine):
    """A reference that waits for somebody to approve it."""
    with Session(engine) as session:
        session.add(
            ReferenceRow(
                id="ab" * 32,
                model="anomaly",
                package="cd" * 32,
                contract_hash="ef" * 32,
                state="proposed",
                built_from="a test",
                created_at=datetime.now(UTC),
                content=b"",
                n_events=1,
                n_lumisections=1,
            )
        )
        session.commit()
    return "ab" * 32


def token_file(access, tmp_path, name):
    file = tmp_path / f"{name}-token"
    file.write_text(access.tokens.create(name, "x", days=1, by="test")[1])
    return file


def test_people_are_listed_with_what_they_have(lumiwatch, people, access):
    access.set_password("ada", PASSWORD, by="test")
    access.tokens.create("olga", "x", days=1, by="test")

    text = lumiwatch("users", "list", "--site", people).out
    listed = json.loads(lumiwatch("users", "list", "--site", people, "--json").out)

    assert "Olga Example" in text
    assert [(one["name"], one["role"], one["tokens"]) for one in listed] == [
        ("ada", "admin", 0), ("egon", "expert", 0), ("olga", "operator", 1), ("vera", "viewer", 0),
    ]  # fmt: skip
    assert [one["password_changed_at"] is not None for one in listed] == [True, False, False, False]


def test_a_password_comes_from_a_file_and_ends_earlier_logins(lumiwatch, people, access, engine, tmp_path):
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\nand more lines\n")

    said = lumiwatch("users", "password", "vera", "--password-file", file, "--site", people)

    assert (said.code, said.out) == (0, "password of vera is set; earlier logins have ended\n")
    assert access.passwords.matches("vera", PASSWORD)
    with Session(engine) as session:
        (event,) = session.exec(
            select(EventRecord).where(EventRecord.kind == "access.password_changed")
        ).all()
    assert event.actor == f"shell:{getpass.getuser()}"
    assert PASSWORD not in event.model_dump_json()


def type_passwords(site, *typed):
    """Answer the prompts of the command at a terminal of its own; gives its exit code and what was shown."""
    keyboard, terminal = os.openpty()
    command = [sys.executable, "-m", "daemon.cli", "users", "password", "vera", "--site", str(site)]
    with subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=subprocess.PIPE, start_new_session=True, bufsize=0
    ) as process:
        os.close(terminal)
        said = b""
        for prompt, answer in zip((b"new password of vera: ", b"the same again: "), typed, strict=True):
            while not said.endswith(prompt) and (more := process.stderr.read(1)):
                said += more
            os.write(keyboard, f"{answer}\n".encode())
        said += process.stderr.read()
        process.wait()
        with suppress(OSError):  # a terminal that nobody has open any more
            said += os.read(keyboard, 4096)
        os.close(keyboard)
    return process.returncode, said.decode()


def test_a_password_is_typed_twice_and_never_shown(people, access):
    code, said = type_passwords(people, PASSWORD, PASSWORD)
    assert code == 0, said
    assert access.passwords.matches("vera", PASSWORD)

    other = "another horse battery"
    code, said_then = type_passwords(people, other, PASSWORD)
    assert code == 2
    assert "not the same: nothing was changed" in said_then
    assert not access.passwords.matches("vera", other)
    assert PASSWORD not in said + said_then


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("users", "password", "nobody", "--password-file", "good"), "nobody is called 'nobody'"),
        (("users", "password", "vera", "--password-file", "short"), "10 to 256 characters"),
        (("users", "password", "vera", "--password-file", "empty"), "is empty"),
        (("users", "password", "vera", "--password-file", "missing"), "no password can be read"),
        (("tokens", "create", "nobody"), "nobody is called 'nobody'"),
        (("tokens", "create", "vera", "--for", "0"), "at most 366 days"),
        (("tokens", "list", "--of", "nobody"), "nobody is called 'nobody'"),
        (("tokens", "revoke", "t-00000000"), "no token 't-00000000'"),
    ],
)
def test_what_cannot_be_done_is_one_line(lumiwatch, people, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    for name, content in (("good", PASSWORD), ("short", "short"), ("empty", "")):
        (tmp_path / name).write_text(content)

    line = lumiwatch(*arguments, "--site", people).line

    assert words in line
    assert PASSWORD not in line


def test_a_token_is_made_shown_once_listed_and_revoked(lumiwatch, people, access):
    made = lumiwatch("tokens", "create", "olga", "--for", "30", "--name", "dashboard", "--site", people)
    token = made.out.strip()
    assert access.person_of_token(token).name == "olga"
    assert "good until" in made.err
    assert token not in made.err

    text = lumiwatch("tokens", "list", "--site", people).out
    (listed,) = json.loads(lumiwatch("tokens", "list", "--of", "olga", "--site", people, "--json").out)
    assert "dashboard" in text
    assert token not in text
    assert "digest" not in listed
    until = datetime.fromisoformat(listed["ends_at"])
    assert timedelta(days=29) < until - datetime.now(UTC) < timedelta(days=31)

    assert lumiwatch("tokens", "revoke", listed["id"], "--site", people).code == 0
    with pytest.raises(NotAuthenticated):
        access.person_of_token(token)
    assert json.loads(lumiwatch("tokens", "list", "--site", people, "--json").out) == []


def test_a_token_as_json_is_the_token_and_what_is_kept_of_it(lumiwatch, people, access):
    made = json.loads(lumiwatch("tokens", "create", "olga", "--site", people, "--json").out)

    assert access.person_of_token(made["token"]).name == made["person"] == "olga"
    assert "digest" not in made


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vera", "vera may not approve or retire references: the role expert is needed, vera has viewer"),
        ("olga", "the role expert is needed, olga has operator"),
    ],
)
def test_a_role_that_does_not_suffice_approves_no_reference(
    lumiwatch, people, access, reference, tmp_path, name, words
):
    file = token_file(access, tmp_path, name)

    for act in ("approve", "retire"):
        line = lumiwatch("reference", act, reference[:12], "--token-file", file, "--site", people).line
        assert words in line


def test_an_expert_who_is_no_approver_of_the_model_is_refused(lumiwatch, people, access, reference, tmp_path):
    model = people / "models" / "anomaly" / "model.toml"
    model.write_text(model.read_text().replace('["ada", "egon"]', '["ada"]'))
    file = token_file(access, tmp_path, "egon")

    line = lumiwatch("reference", "approve", reference[:12], "--token-file", file, "--site", people).line

    assert "'egon' may not approve for anomaly: approvers are ada" in line


def test_a_name_opens_nothing_and_a_wrong_token_neither(lumiwatch, people, reference, tmp_path, monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    file = tmp_path / "token"
    file.write_text("lw_guessed-guessed-guessed")

    said = lumiwatch("reference", "approve", reference[:12], "--as", "ada", "--site", people)
    assert "No such option" in said.usage or "no such option" in said.usage.lower()
    assert "no operator token" in lumiwatch("reference", "approve", reference[:12], "--site", people).line
    line = lumiwatch("reference", "approve", reference[:12], "--token-file", file, "--site", people).line
    assert "unknown token" in line


def test_an_approver_puts_a_reference_in_use_and_out_of_it(
    lumiwatch, people, access, engine, reference, tmp_path, monkeypatch
):
    monkeypatch.setenv(TOKEN_VARIABLE, str(token_file(access, tmp_path, "egon")))

    approved = lumiwatch("reference", "approve", reference[:12], "--site", people)
    assert approved.code == 0, approved.err
    with Session(engine) as session:
        row = session.get(ReferenceRow, reference)
        assert (row.state, row.approved_by) == ("approved", "egon")
    assert lumiwatch("reference", "retire", reference[:12], "--site", people).code == 0
    with Session(engine) as session:
        acts = session.exec(select(EventRecord).where(EventRecord.model == "anomaly")).all()
    assert [(act.kind, act.actor, act.detail) for act in acts] == [
        ("reference.approved", "egon", {"reference": reference}),
        ("reference.retired", "egon", {"reference": reference}),
    ]


def test_a_site_without_people_needs_no_daemon_to_approve(lumiwatch, site, monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)

    line = lumiwatch("reference", "approve", "abcdef", "--site", site).line

    assert "token" not in line
    assert "abcdef" in line
