from dataclasses import replace
from pathlib import Path

import pytest

from hw.errors import ToolchainAbsent, ToolchainError
from hw.layout import Layout
from hw.vendor.design import Design, PartitionSources, wide_ports
from hw.vendor.floorplan import Floorplan, Region
from hw.vendor.project import run
from hw.vendor.quartus import Change, quartus_project
from tests.support.hw import random_model
from tests.support.vendor import fake_program, path_with, tcl_calls

EXPECTED = Path(__file__).parent / "expected" / "quartus"
FLOORPLAN = Floorplan({"p0": Region(box=(69, 10, 88, 29)), "p1": Region(box=(0, 40, 20, 60), margin=2)})
PART = "1SX280HN2F43E2VG"
# what the programs leave: the assembler's files of a compilation, and the converted image
QUARTUS_SH = """\
if [ "$1" = --version ]; then echo "Quartus Prime Shell"; echo "Version 23.1.0 Build 115"; exit 0; fi
echo "$@" >>commands.txt; mkdir -p output_files
case "$5" in base) echo x >output_files/base.sof;; *) echo x >output_files/$5.p1.rbf;; esac
"""
QUARTUS_PFG = """\
if [ "$1" = --version ]; then echo "Quartus Prime File Generator"; echo "Version 23.1.0"; exit 0; fi
echo pfg "$@" >>commands.txt; cp "$2" "$3"
"""


def sources(partition, module):
    return PartitionSources(module, wide_ports(partition), {f"{module}.v": b"// partition\n"})


@pytest.fixture
def design():
    model = replace(random_model((3, 4, 2), seed=5), layout=Layout("da4ml", PART, cuts=(1,)))
    return Design(model, {p.name: sources(p, f"lumiwatch_{p.name}") for p in model.partitions()}, PART, 4.0)


@pytest.fixture
def change(design):
    return Change("retrained", {"p1": sources(design.model.partitions()[1], "lumiwatch_p1_retrained")})


def test_the_revisions_are_the_recorded_ones(design, change):
    project = quartus_project(design, FLOORPLAN, "Stratix 10", (change,))
    for name in ("base.qsf", "retrained.qsf", "lumiwatch.qpf"):
        assert project.files[name].decode() == (EXPECTED / name).read_text()
    assert project.commands == (
        "quartus_sh --flow compile lumiwatch -c base",
        "quartus_sh --flow compile lumiwatch -c retrained",
        "quartus_pfg -c output_files/base.sof output_files/base.rbf",
    )


def test_the_settings_are_tcl_with_one_assignment_a_line(design, change, tmp_path):
    project = quartus_project(design, FLOORPLAN, "Stratix 10", (change,))
    project.write(tmp_path)
    for name in ("base.qsf", "retrained.qsf"):
        calls = tcl_calls(tmp_path, name, "quartus")
        assert len(calls) == len((tmp_path / name).read_text().splitlines())
        regions = [call.split("PLACE_REGION ")[1] for call in calls if "-name PLACE_REGION" in call]
        assert regions == ["{69 10 88 29} -to shell|p0", "{0 40 20 60} -to shell|p1"]


def test_what_does_not_change_is_imported_and_what_does_is_bound(design, change):
    lines = (
        quartus_project(design, FLOORPLAN, "Stratix 10", (change,))
        .files["retrained.qsf"]
        .decode()
        .splitlines()
    )
    bound = [line.split("-name ")[1] for line in lines if "QDB_FILE" in line or "REBINDING" in line]
    assert bound == [
        "QDB_FILE_PARTITION output_files/lumiwatch_static.qdb -to | -entity lumiwatch_trial",
        "QDB_FILE_PARTITION output_files/p0_base.qdb -to shell|p0 -entity lumiwatch_trial",
        "ENTITY_REBINDING lumiwatch_p1_retrained -to shell|p1 -entity lumiwatch_trial",
    ]
    # every file that a revision names is in the project
    project = quartus_project(design, FLOORPLAN, "Stratix 10", (change,))
    named = [line.split()[-1] for line in lines if "_FILE " in line and "set_global" in line]
    assert named
    assert set(named) <= set(project.files)


def test_older_families_convert_with_their_own_program_and_ask_for_the_partial_image(design):
    project = quartus_project(design, FLOORPLAN, "Arria 10")
    assert project.needs == ("quartus_sh", "quartus_cpf")
    assert "GENERATE_PR_RBF_FILE ON" in project.files["base.qsf"].decode()
    assert (
        "GENERATE_PR_RBF_FILE"
        not in quartus_project(design, FLOORPLAN, "Agilex 7").files["base.qsf"].decode()
    )


def test_it_runs_where_quartus_is(design, change, tmp_path, monkeypatch):
    project = quartus_project(design, FLOORPLAN, "Stratix 10", (change,))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(ToolchainAbsent, match="quartus_sh is not on PATH"):
        run(project, tmp_path / "absent")
    fake_program(tmp_path / "bin", "quartus_sh", QUARTUS_SH)
    fake_program(tmp_path / "bin", "quartus_pfg", QUARTUS_PFG)
    monkeypatch.undo()
    monkeypatch.setenv("PATH", path_with(tmp_path / "bin"))
    done = run(project, tmp_path / "project")
    assert set(done.outputs) == {
        f"output_files/{name}" for name in ("base.sof", "retrained.p1.rbf", "base.rbf")
    }
    assert (tmp_path / "project" / "commands.txt").read_text().splitlines() == [
        "--flow compile lumiwatch -c base",
        "--flow compile lumiwatch -c retrained",
        "pfg -c output_files/base.sof output_files/base.rbf",
    ]


def test_wrong_changes_say_what_to_do(design, change):
    p0, p1 = design.model.partitions()
    for wrong, message in (
        (replace(change, name="base"), "cannot name a revision"),
        (Change("x", {"p1": sources(p1, "lumiwatch_p1")}), "needs a new name"),
        (Change("x", {"p1": sources(p0, "other")}), "changes the edges"),
        (Change("x", {"p9": sources(p1, "other")}), "the base has p0, p1"),
    ):
        with pytest.raises(ToolchainError, match=message):
            quartus_project(design, FLOORPLAN, "Stratix 10", (wrong,))
    with pytest.raises(ToolchainError, match="no box"):
        quartus_project(design, Floorplan({"p0": Region(), "p1": Region()}), "Stratix 10")
