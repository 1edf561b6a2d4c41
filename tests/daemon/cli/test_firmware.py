"""Packages that must not be trusted, data of another contract, a machine without a compiler."""

import json
import zipfile

import pytest


@pytest.fixture
def bad_package(request, packages, tmp_path):
    """A package with one thing wrong, by name."""
    path = tmp_path / "bad.lwpkg"
    whole = packages.first.path.read_bytes()
    if request.param == "missing":
        return path
    if request.param in {"noise", "short"}:
        path.write_bytes(whole[:20_000] if request.param == "short" else bytes(range(256)))
        return path
    with zipfile.ZipFile(packages.first.path) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "memory.bin" and request.param == "changed":
                content = bytes([content[0] ^ 1]) + content[1:]
            target.writestr(name, content)
        if request.param in {"extra.txt", "../extra.txt"}:
            target.writestr(request.param, "x")
    return path


BAD = pytest.mark.parametrize(
    ("bad_package", "said"),
    [
        ("missing", "cannot be read (No such file or directory): check the path"),
        ("noise", "is damaged"),
        ("short", "is damaged"),
        ("changed", "memory.bin is not the file that was signed"),
        ("extra.txt", "holds files nobody signed (extra.txt)"),
        ("../extra.txt", "unsafe file name '../extra.txt'"),
    ],
    indirect=["bad_package"],
)


@BAD
def test_a_tampered_package_is_refused(lumiwatch, trusting_site, packages, bad_package, said):
    good = packages.first.path
    for command in (["show", bad_package], ["plan", bad_package, good], ["plan", good, bad_package]):
        line = lumiwatch("hw", *command, "--site", trusting_site).line
        assert "bad.lwpkg" in line
        assert said in line


@pytest.mark.parametrize(
    ("bad_package", "said"), [("changed", "is not the file that was signed")], indirect=["bad_package"]
)
def test_a_tampered_package_is_not_benched(lumiwatch, trusting_site, bad_package, said):
    assert said in lumiwatch("hw", "bench", bad_package, "--site", trusting_site).line


def test_a_package_of_an_unknown_key_is_refused(lumiwatch, site, packages):
    first, second = packages.first.path, packages.second.path
    for command in (["show", first], ["bench", first], ["plan", first, second]):
        line = lumiwatch("hw", *command, "--site", site).line
        assert "is not signed by a trusted key (trusted: site)" in line
        assert "add the builder's .pub file or reject it" in line


def test_a_trusted_package_is_shown_planned_and_benched_as_pure_json(lumiwatch, trusting_site, packages):
    first, second = packages.first.path, packages.second.path
    for command in (["show", first], ["plan", first, second], ["bench", first, "--events", 200]):
        ended = lumiwatch("hw", *command, "--site", trusting_site, "--json")
        assert ended.code == 0, ended.err
        json.loads(ended.out)


def test_a_board_that_does_not_answer_is_named(lumiwatch, trusting_site, packages):
    bench = ["hw", "bench", packages.first.path, "--site", trusting_site, "--events", 100, "--board"]
    assert "board at 127.0.0.1:1 does not answer" in lumiwatch(*bench, "127.0.0.1:1").line


def test_without_a_compiler_nothing_is_begun(lumiwatch, trained_site, no_compiler):
    jobs = sorted((trained_site / "state" / "jobs").iterdir())
    line = lumiwatch("hw", "build", "--model", "anomaly", "--site", trained_site).line
    assert "no C++ compiler: install g++" in line
    assert sorted((trained_site / "state" / "jobs").iterdir()) == jobs


def test_data_of_another_contract_are_refused(lumiwatch, trained_site, packages, monkeypatch):
    monkeypatch.setenv("LUMIWATCH_KAFKA__BOOTSTRAP", "127.0.0.1:1")
    board = trained_site / "state" / "boards" / "anomaly.json"
    board.parent.mkdir(parents=True, exist_ok=True)
    board.write_text('{"address": "127.0.0.1:1"}')
    other, options = trained_site / "other.npz", ["--model", "anomaly", "--site", trained_site]
    jobs = sorted((trained_site / "state" / "jobs").iterdir())
    for command in (
        ["train", other],
        ["reference", "build", other, "--package", packages.first.path],
        ["replay", other, "--run", 7],
        ["hw", "build", "--events", other],
    ):
        line = lumiwatch(*command, *options).line
        assert "other.npz: dataset made under contract 'anomaly' version 2" in line
        assert "convert it again" in line
    assert sorted((trained_site / "state" / "jobs").iterdir()) == jobs


@pytest.mark.parametrize("content", [None, b"", b"no dataset"])
def test_a_dataset_that_is_none_is_named(lumiwatch, trained_site, packages, tmp_path, content):
    path = tmp_path / "bad.npz"
    if content is not None:
        path.write_bytes(content)
    options = ["--model", "anomaly", "--site", trained_site]
    for command in (["train", path], ["reference", "build", path, "--package", packages.first.path]):
        assert "bad.npz: " in lumiwatch(*command, *options).line
