"""`lumiwatch convert` with every input a person can get wrong."""

import json
import resource
import signal
from pathlib import Path

import pytest

from tests.support.daemon import EXAMPLE_SITE
from tests.support.root_files import coffea_file

CONTRACT = EXAMPLE_SITE / "models" / "anomaly" / "contract.toml"


@pytest.fixture
def folder(tmp_path, root_file) -> Path:
    """Sources and contracts of all kinds; `out` is where results go."""
    whole, contract = root_file.read_bytes(), CONTRACT.read_text()
    (tmp_path / "short.root").write_bytes(whole[:50_000])
    (tmp_path / "text.root").write_text("no ROOT file")
    (tmp_path / "empty.root").touch()
    (tmp_path / "folder.root").mkdir()
    (tmp_path / "branch.toml").write_text(contract.replace("Jet_Px", "Jet_Qx"))
    (tmp_path / "tree.toml").write_text(contract.replace('tree = "events"', 'tree = "eventz"'))
    (tmp_path / "key.toml").write_text(f"colour = 1\n{contract}")
    (tmp_path / "type.toml").write_text(contract.replace("version = 1", 'version = "one"', 1))
    (tmp_path / "syntax.toml").write_text("x = [")
    (tmp_path / "binary.toml").write_bytes(bytes(range(256)))
    (tmp_path / "out").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("missing.root", "there is no such file: check the path"),
        ("short.root", "copy it again"),
        ("text.root", "is not a ROOT file"),
        ("empty.root", "is empty"),
        ("folder.root", "is a folder: name the ROOT files in it"),
    ],
)
def test_a_source_that_cannot_be_read_is_named(lumiwatch, folder, source, said):
    ended = lumiwatch("convert", folder / source, "--contract", CONTRACT, "--out", folder / "out" / "o.npz")
    assert source in ended.line
    assert said in ended.line
    assert list((folder / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("contract", "said"),
    [
        ("branch.toml", "tree 'events' has no branch 'Jet_Qx': it has Electron_Charge"),
        ("tree.toml", "has no tree 'eventz': its trees are events"),
        ("key.toml", "key.toml: unknown key 'colour': remove it"),
        ("type.toml", "type.toml: version: Input should be a valid integer"),
        ("syntax.toml", "syntax.toml: not valid TOML"),
        ("binary.toml", "binary.toml: cannot read this contract (it is no text): give a TOML file"),
        ("none.toml", "none.toml: cannot read this contract (No such file or directory): give a TOML file"),
        ("folder.root", "folder.root: cannot read this contract (Is a directory): give a TOML file"),
    ],
)
def test_a_contract_that_cannot_be_used_is_named(lumiwatch, folder, root_file, contract, said):
    ended = lumiwatch(
        "convert", root_file, "--contract", folder / contract, "--out", folder / "out" / "o.npz"
    )
    assert said in ended.line
    assert list((folder / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("nowhere/o.npz", "check that its folder exists"),
        ("text.root/o.npz", "check that its folder exists"),
        ("out", "(it is a folder): name a file in it"),
        ("/dev/null", "(it is no plain file): name another"),
        ("/proc/o.npz", "check that its folder exists"),
    ],
)
def test_an_output_that_cannot_be_written_is_named_before_anything_is_read(lumiwatch, folder, out, said):
    # the source is missing too: had it been looked for first, it would be named
    ended = lumiwatch("convert", folder / "missing.root", "--contract", CONTRACT, "--out", folder / out)
    assert said in ended.line
    assert list((folder / "out").iterdir()) == []
    assert Path("/dev/null").is_char_device()


def test_a_full_disk_leaves_what_was_there(lumiwatch, folder, root_file):
    target = folder / "out" / "o.npz"
    target.write_text("from before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    at_limit = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        ended = lumiwatch("convert", root_file, "--contract", CONTRACT, "--out", target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, at_limit)
    assert "o.npz: cannot write (File too large): make room" in ended.line
    assert [path.read_text() for path in (folder / "out").iterdir()] == ["from before"]


def test_json_is_all_there_is_on_standard_output(lumiwatch, folder, root_file):
    target = folder / "out" / "o.npz"
    ended = lumiwatch("convert", root_file, "--contract", CONTRACT, "--out", target, "--json")
    assert ended.code == 0
    assert json.loads(ended.out)["events_kept"] == 2421


def test_shipped_contracts_are_listed_and_found_by_name(lumiwatch, folder):
    ended = lumiwatch("convert", "--list-contracts")
    assert ended.code == 0
    assert "axol1tl-v5" in ended.out
    source = coffea_file("nano_tt_v15.root")
    target = folder / "out" / "o.npz"
    ended = lumiwatch("convert", source, "--contract", "nanoaod-jet-tagger", "--out", target)
    assert "200 of 200 events kept, dropped: none" in ended.out.replace("\n", " ")
    assert ended.err == ""
    ended = lumiwatch("convert", source, "--contract", "nanoaod-jets", "--out", target)
    assert "neither a file nor a shipped contract: known are atlas-physlite" in ended.line


def test_a_protocol_that_is_not_installed_names_its_package(lumiwatch, folder):
    ended = lumiwatch("convert", "s3://b/f.root", "--contract", CONTRACT, "--out", folder / "out" / "o.npz")
    assert "Install s3fs" in ended.line


def test_resume_without_anything_begun_starts(lumiwatch, folder, root_file):
    target = folder / "out" / "o.npz"
    assert lumiwatch("convert", root_file, "--contract", CONTRACT, "--out", target, "--resume").code == 0
    assert [path.name for path in (folder / "out").iterdir()] == ["o.npz"]
