"""Sites that are not there or say something wrong, and ids that nobody knows."""

import json
import sqlite3

import pytest


def test_a_folder_without_a_site_is_named(lumiwatch, tmp_path):
    assert (
        "lumiwatch.toml: no such file; give a site folder" in lumiwatch("incidents", "--site", tmp_path).line
    )


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("lumiwatch.toml", "key colour: is unknown"),
        ("models/anomaly/model.toml", "key colour: is unknown"),
        ("models/anomaly/contract.toml", "unknown key 'colour'"),
    ],
)
def test_a_wrong_key_is_named_with_its_file(lumiwatch, site, file, said):
    path = site / file
    path.write_text(f"colour = 1\n{path.read_text()}")
    for command in (["config", "check"], ["incidents"], ["serve"], ["worker"], ["up"]):
        line = lumiwatch(*command, "--site", site).line
        assert file in line
        assert said in line
    assert not (site / "state").exists()


def test_a_missing_contract_is_named(lumiwatch, site):
    (site / "models" / "anomaly" / "contract.toml").unlink()
    assert "contract.toml: cannot read this contract" in lumiwatch("config", "check", "--site", site).line


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("LUMIWATCH_CONSOLE__PORT", "environment variable LUMIWATCH_CONSOLE__PORT: key console.port"),
        ("LUMIWATCH_CONSOLE__COLOUR", "environment variable LUMIWATCH_CONSOLE__COLOUR: key console.colour"),
        ("LUMIWATCH_CONSOLE", "set the keys of a section one by one"),
    ],
)
def test_a_wrong_variable_is_named(lumiwatch, site, monkeypatch, variable, said):
    monkeypatch.setenv(variable, "much")
    assert said in lumiwatch("config", "check", "--site", site).line


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("incidents", "show", "nope"), "no incident 'nope'"),
        (("incidents", "show", "nope", "--json"), "no incident 'nope'"),
        (("lineage", "show", "nope"), "no artefact 'nope'"),
        (("lineage", "show", ""), "no artefact ''"),
        (("reference", "approve", "nope"), "no reference begins with 'nope'"),
        (("reference", "retire", "%"), "no reference begins with '%'"),
        (("reference", "list", "--model", "muons"), "model 'muons' is not watched at this site"),
        (("hw", "board", "--model", "muons"), "model 'muons' is not watched at this site"),
        (("hw", "board", "--model", "anomaly"), "is not running: start it with `lumiwatch up`"),
        (("hw", "build", "--model", "anomaly"), "was never trained here: run `lumiwatch train` first"),
    ],
)
def test_what_nobody_knows_is_named(lumiwatch, site, command, said):
    assert said in lumiwatch(*command, "--site", site).line


@pytest.mark.parametrize(
    "command",
    [
        ("approve", "anomaly-1-r1"),
        ("reject", "anomaly-1-r1"),
        ("prescale-out", "anomaly-1-r1"),
        ("incidents", "ack", "anomaly-1"),
        ("incidents", "resolve", "anomaly-1", "-m", "gone"),
        ("incidents", "respond", "anomaly-1", "--json"),
    ],
)
def test_without_a_daemon_one_cannot_decide(lumiwatch, site, tmp_path, monkeypatch, command):
    assert "no operator token (No such file or directory)" in lumiwatch(*command, "--site", site).line
    token = tmp_path / "token"
    token.write_text("a-token-of-somebody")
    monkeypatch.setenv("LUMIWATCH_TOKEN_FILE", str(token))
    monkeypatch.setenv("LUMIWATCH_CONSOLE__PORT", "1")
    line = lumiwatch(*command, "--site", site).line
    assert "no daemon answers at http://127.0.0.1:1" in line
    assert "start it with `lumiwatch up`" in line


@pytest.mark.parametrize("content", [b"", b"\n", bytes(range(256)), b"one-token-too-many\nsecond"])
def test_a_file_that_holds_no_token_is_named(lumiwatch, site, tmp_path, monkeypatch, content):
    token = tmp_path / "token"
    token.write_bytes(content)
    monkeypatch.setenv("LUMIWATCH_TOKEN_FILE", str(token))
    line = lumiwatch("approve", "anomaly-1-r1", "--site", site).line
    assert f"{token}: holds no operator token" in line


def test_a_database_that_is_none_is_named(lumiwatch, site):
    (site / "state").mkdir()
    (site / "state" / "lumiwatch.sqlite").write_bytes(b"this is no database, and long enough to look at" * 40)
    line = lumiwatch("incidents", "--site", site).line
    assert "lumiwatch.sqlite" in line


def test_a_database_that_breaks_in_use_is_one_line(lumiwatch, site):
    assert lumiwatch("incidents", "--site", site).code == 0
    with sqlite3.connect(site / "state" / "lumiwatch.sqlite") as connection:
        connection.execute("DROP TABLE daemon_incidents")
    connection.close()
    assert "daemon_incidents" in lumiwatch("incidents", "--site", site).line


def test_a_state_folder_that_cannot_be_made_is_named(lumiwatch, site):
    (site / "state").write_text("a file")
    for command in (["serve"], ["up", "--port", 0], ["train", "x.npz", "--model", "anomaly"]):
        assert "state" in lumiwatch(*command, "--site", site).line


@pytest.mark.parametrize(
    "command", [("config", "check"), ("incidents",), ("incidents", "--all"), ("reference", "list")]
)
def test_json_of_a_fresh_site_is_pure(lumiwatch, site, command):
    ended = lumiwatch(*command, "--site", site, "--json")
    assert ended.code == 0
    assert ended.err == ""
    json.loads(ended.out)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("", "", "board emulated, scrubbed every 60 s (flipped bits are repaired)"),
        (
            'board = "emulated"',
            'board = "udp://crate-7:50001"',
            "board udp://crate-7:50001 (one client at a time), scrubbed every 60 s",
        ),
        ('board = "emulated"', 'board = "tcp://crate-7:50001"', "board tcp://crate-7:50001, scrubbed"),
        ("scrub_interval_s = 60", "scrub_interval_s = 0", "board emulated, not scrubbed"),
        ("scrub_repair = true", "scrub_repair = false", "(flipped bits are said only)"),
    ],
)
def test_the_check_says_how_a_board_is_reached_and_scrubbed(lumiwatch, site, old, new, said):
    file = site / "models" / "anomaly" / "model.toml"
    file.write_text(file.read_text().replace(old, new))
    assert said in json.loads(lumiwatch("config", "check", "--site", site, "--json").out)["model anomaly"]
