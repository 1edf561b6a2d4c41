import os
import time
from pathlib import Path

import pytest

from hw.errors import ToolchainAbsent, ToolchainError
from hw.vendor import tools
from hw.vendor.project import LOG, VendorProject, run
from tests.support.vendor import fake_program, path_with

VERSION = 'if [ "$1" = "-version" ]; then echo "vivado v2023.2 (64-bit)"; exit 0; fi\n'
COMMANDS = ("vivado -mode batch -source a.tcl", "vivado -mode batch -source 'b c.tcl'")


def project(commands=COMMANDS, outputs=("out/made.bit",)):
    files = {"a.tcl": b"puts a\n", "deep/b.txt": b"\x00\xff"}
    return VendorProject("Vivado", files, commands, ("vivado",), outputs)


def on_path(monkeypatch, tmp_path, body):
    fake_program(tmp_path / "bin", "vivado", VERSION + body)
    monkeypatch.setenv("PATH", path_with(tmp_path / "bin"))


def test_without_the_tool_the_project_is_complete_and_the_error_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(ToolchainAbsent, match="vivado is not on PATH: install Vivado") as raised:
        run(project(), tmp_path / "project")
    assert raised.value.commands == COMMANDS
    found = sorted(
        path.relative_to(tmp_path / "project").as_posix() for path in (tmp_path / "project").rglob("*.*")
    )
    assert found == ["a.tcl", "deep/b.txt"]  # and nothing that looks like a result
    assert (tmp_path / "project" / "deep" / "b.txt").read_bytes() == b"\x00\xff"


def test_with_the_tool_every_command_runs_in_order_in_the_folder(tmp_path, monkeypatch):
    body = (
        'for a in "$@"; do echo "<$a>"; done >>arguments.txt; mkdir -p out; echo b >out/made.bit; echo hello'
    )
    on_path(monkeypatch, tmp_path, body)
    done = run(project(), tmp_path / "project")
    folder = tmp_path / "project"
    expected = ["<-mode>", "<batch>", "<-source>", "<a.tcl>", "<-mode>", "<batch>", "<-source>", "<b c.tcl>"]
    assert (folder / "arguments.txt").read_text().split("\n")[:-1] == expected
    assert done.outputs["out/made.bit"].read_text() == "b\n"
    assert done.versions == {"vivado": "2023.2"}
    assert (folder / LOG).read_text() == f"$ {COMMANDS[0]}\nhello\n$ {COMMANDS[1]}\nhello\n"
    run(project(), folder)  # the same project may be run again


def test_a_command_that_fails_ends_the_run(tmp_path, monkeypatch):
    on_path(monkeypatch, tmp_path, 'echo "$4" >>ran.txt; echo "ERROR: [Place 30] no room"; exit 1')
    with pytest.raises(ToolchainError, match=r"ERROR: \[Place 30\] no room.*lumiwatch\.log") as raised:
        run(project(), tmp_path / "project")
    assert not isinstance(raised.value, ToolchainAbsent)
    assert (tmp_path / "project" / "ran.txt").read_text() == "a.tcl\n"


def test_success_without_the_promised_file_is_a_failure(tmp_path, monkeypatch):
    on_path(monkeypatch, tmp_path, "mkdir -p out; : >out/made.bit")
    with pytest.raises(ToolchainError, match=r"left no out/made\.bit"):
        run(project(), tmp_path / "project")


def test_out_of_time_kills_the_tool_and_what_it_started(tmp_path, monkeypatch):
    on_path(monkeypatch, tmp_path, "sleep 1000 & echo $! >child.txt; wait")
    with pytest.raises(ToolchainError, match=r"ran past 0\.5 s"):
        run(project(), tmp_path / "project", timeout_s=0.5)
    child = int((tmp_path / "project" / "child.txt").read_text())
    for _ in range(100):  # the kernel needs a moment to bury it
        if not _alive(child):
            return
        time.sleep(0.05)
    pytest.fail("the tool's child is still running")


def _alive(pid):
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_another_program_of_the_same_name_is_not_believed(tmp_path, monkeypatch):
    fake_program(tmp_path / "bin", "vivado", "echo 'vivado 1.0, a string quartet'")
    monkeypatch.setenv("PATH", path_with(tmp_path / "bin"))
    with pytest.raises(ToolchainAbsent, match="another program than Vivado's vivado"):
        run(project(), tmp_path / "project")


@pytest.mark.parametrize(
    ("name", "output", "version"),
    [
        ("vivado", "vivado v2023.2 (64-bit)\nTool Version Limit: 2023.10", "2023.2"),
        ("vitis_hls", "Vitis HLS - High-Level Synthesis from C, C++ and OpenCL v2022.1 (64-bit)", "2022.1"),
        ("v++", "****** v++ v2024.1 (64-bit)", "2024.1"),
        ("vitis-run", "****** vitis-run v2024.2 (64-bit)", "2024.2"),
        ("updatemem", "****** updatemem v2022.2 (64-bit)", "2022.2"),
        ("quartus_sh", "Quartus Prime Shell\nVersion 23.1.0 Build 115 03/30/2023 SC Pro Edition", "23.1"),
        ("docker", "Docker version 24.0.5, build ced0996", "24.0"),
        ("vai_c_xir", "usage: vai_c_xir [-h] [-x XMODEL] [-a ARCH]", "unknown"),
    ],
)
def test_tools_are_known_by_what_they_say(tmp_path, monkeypatch, name, output, version):
    fake_program(tmp_path / "bin", name, f"cat <<'END'\n{output}\nEND")
    monkeypatch.setenv("PATH", path_with(tmp_path / "bin"))
    found = tools.find(name)
    assert (found.path, found.version) == (str(tmp_path / "bin" / name), version)


def test_a_folder_of_another_project_is_left_alone(tmp_path):
    (tmp_path / "a.tcl").write_text("mine")
    with pytest.raises(ToolchainError, match="belongs to another project"):
        project().write(tmp_path)
    assert (tmp_path / "a.tcl").read_text() == "mine"
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize("path", ["../a", "/etc/a", "a//b", "a/../b", "", LOG])
def test_paths_stay_inside(path):
    with pytest.raises(ToolchainError, match="no path inside a project"):
        VendorProject("Vivado", {path: b""}, (), ())


@pytest.mark.parametrize("command", ["vivado; rm x", "vivado $(id)", "vivado > log", "other -x"])
def test_commands_are_plain_programs_that_the_project_names(command):
    with pytest.raises(ToolchainError, match=r"needs a shell|does not name"):
        project(commands=(command,))
