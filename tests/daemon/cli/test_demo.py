"""`lumiwatch demo`, `serve` and `up` where they cannot run: nothing is made, nothing is started."""

import socket
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from daemon.demo.stage import prepare_folder


@pytest.fixture
def taken_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_without_a_compiler_the_demo_ends_before_it_begins(lumiwatch, tmp_path, no_compiler):
    line = lumiwatch("demo", "--folder", tmp_path / "demo", "--port", 0).line
    assert "no C++ compiler: install g++" in line
    assert not (tmp_path / "demo").exists()


def test_a_port_in_use_is_named_before_anything_is_emptied(lumiwatch, tmp_path, taken_port):
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / ".lumiwatch-demo").touch()
    (folder / "summary.json").write_text("of an earlier demo")
    line = lumiwatch("demo", "--folder", folder, "--port", taken_port).line
    assert f"127.0.0.1:{taken_port} is in use by another process" in line
    assert (folder / "summary.json").exists()


def test_serve_and_up_name_a_port_in_use(lumiwatch, site, taken_port, monkeypatch):
    assert f"127.0.0.1:{taken_port} is in use" in lumiwatch("up", "--site", site, "--port", taken_port).line
    monkeypatch.setenv("LUMIWATCH_CONSOLE__PORT", str(taken_port))
    assert f"127.0.0.1:{taken_port} is in use" in lumiwatch("serve", "--site", site).line
    assert not (site / "state").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--auto-approve", "--auto-reject"), "exclude each other"),
        (("--effect", "gain"), "effect 'gain' is badly written"),
        (("--effect", "tau_gain=1.1@LS61"), "contract 'anomaly' has pt for"),
        (("--effect", "jet_gain=1.1"), "the demo needs good lumisections first: add for example @LS61"),
        (("--effect", "jet_gain=1.1@LS1"), "the demo needs good lumisections first"),
    ],
)
def test_a_demo_that_cannot_be_is_refused(lumiwatch, tmp_path, options, said):
    assert said in lumiwatch("demo", "--folder", tmp_path / "demo", "--port", 0, *options).line
    assert not (tmp_path / "demo").exists()


def test_a_folder_that_the_demo_did_not_make_is_left_alone(lumiwatch, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    line = lumiwatch("demo", "--folder", tmp_path, "--port", 0).line
    assert f"{tmp_path} is not empty and was not made by `lumiwatch demo`: name another with --folder" in line
    assert (tmp_path / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize("folder", ["file", "file/below", "/proc/lumiwatch-demo"])
def test_a_folder_that_cannot_be_made_is_named(lumiwatch, tmp_path, folder):
    (tmp_path / "file").write_text("a file")
    line = lumiwatch("demo", "--folder", tmp_path / folder, "--port", 0).line
    assert "name a" in line
    assert "--folder" in line


def test_the_folder_of_a_demo_that_runs_is_left_alone(lumiwatch, tmp_path):
    state = prepare_folder(tmp_path / "demo") / "state"
    state.mkdir()
    # stands in for the daemon of the other demo: whatever it answers, it is there
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        Thread(target=server.handle_request, daemon=True).start()
        (state / "daemon-address").write_text(f"http://127.0.0.1:{server.server_address[1]}")
        ended = lumiwatch("demo", "--folder", tmp_path / "demo", "--port", 0)
    assert "holds a demo that still runs: end it, or name another with --folder" in ended.err
    assert ended.code == 2
    assert (state / "daemon-address").exists()
