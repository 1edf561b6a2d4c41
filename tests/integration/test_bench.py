"""Three models through every toolchain that runs here, torch and a board: not one bit may differ."""

import json
from dataclasses import replace

import pytest

from hw.apply import apply
from hw.bench_page import write_page, write_picture
from hw.boards.emulated import start_emulated_board
from hw.boards.ipbus import IPbusBoard
from hw.errors import ModelError, ShellMismatch, StructureMismatch
from hw.job import BenchSpec, BuildSpec, bench_package, build
from hw.models import emulator_of
from hw.package import open_package
from hw.plan import PlanKind, plan
from hw.signing import create_signing_key
from hw.toolchain import find_toolchain, laid_out
from tests.support.hw import bench_models
from tests.support.trees import random_tree_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EVENTS = 4000
TOOLCHAINS = ("lumiwatch-rtl", "hls4ml", "da4ml")


@pytest.mark.parametrize("model", bench_models(small=True), ids=lambda model: model.name)
def test_all_implementations_of_a_model_agree_in_every_bit(model, tmp_path):
    key = create_signing_key(tmp_path / "builder.key")
    key.trusted.write(tmp_path / "builder.pub")
    (tmp_path / "model.npz").write_bytes(model.to_npz_bytes())
    built = build(
        BuildSpec(
            model=tmp_path / "model.npz",
            out=tmp_path / "model.lwpkg",
            signing_key=tmp_path / "builder.key",
            version="1",
            toolchain="lumiwatch-rtl",
            events=500,
        )
    )
    with start_emulated_board(built.package, tmp_path / "builder.pub") as board:
        spec = BenchSpec(
            package=built.package,
            trusted_keys=tmp_path / "builder.pub",
            board=board.address,
            toolchains=TOOLCHAINS,
            torch=True,
            events=EVENTS,
        )
        result = bench_package(spec)
    stages = {stage.name: stage for stage in result.bench.stages}
    assert result.passed, result.bench
    assert result.bench.absent == {}
    assert {name for name, stage in stages.items() if stage.binding} == {
        "emulator",
        "lumiwatch-rtl RTL in Verilator",
        "hls4ml C-sim",
        "da4ml RTL in Verilator",
        "torch quantised",
        f"board {board.address}",
    }
    assert all(stage.mismatching_bits == 0 for stage in stages.values() if stage.binding)
    assert all(stage.events > EVENTS for stage in stages.values())
    assert stages["torch float"].mismatching_events > 0  # real numbers are not what the firmware computes
    for name in ("lumiwatch-rtl RTL in Verilator", "da4ml RTL in Verilator"):
        assert stages[name].latency_cycles > 0
        assert stages[name].interval_cycles > 0
    write_page(result.bench, tmp_path / "bench.html")
    write_picture(result.bench, tmp_path / "bench.png")
    assert json.loads(result.model_dump_json())["passed"] is True


def test_a_board_changes_its_toolchain_and_then_one_partition_of_constants(tmp_path):
    model = bench_models(small=True)[0]
    words = model.parameters()
    words[model.segment("dense3.bias").start] += 40
    key = create_signing_key(tmp_path / "builder.key")
    key.trusted.write(tmp_path / "builder.pub")
    packages = []
    for number, (toolchain, one) in enumerate(
        (("hls4ml", model), ("da4ml", model), ("da4ml", model.with_parameters(words)))
    ):
        (tmp_path / "model.npz").write_bytes(one.to_npz_bytes())
        spec = BuildSpec(
            model=tmp_path / "model.npz",
            out=tmp_path / f"{number}.lwpkg",
            signing_key=tmp_path / "builder.key",
            version=str(number),
            toolchain=toolchain,
            events=300,
        )
        packages.append(open_package(build(spec).package, (key.trusted,)))
    hls, first, second = packages
    with start_emulated_board(hls.path, tmp_path / "builder.pub") as process:
        board = IPbusBoard(process.address)
        with pytest.raises(ShellMismatch, match="approve a full reconfiguration"):
            apply(first, board, (key.trusted,), approved=PlanKind.PARTIAL)
        assert apply(first, board, (key.trusted,), approved=PlanKind.FULL, previous=hls).ok
        with pytest.raises(StructureMismatch, match="approve a partial reconfiguration"):
            apply(second, board, (key.trusted,))
        report = apply(second, board, (key.trusted,), approved=PlanKind.PARTIAL, previous=first)
        done = board.process(second.golden_inputs)
        counters = board.identify().counters
        board.close()
    assert (report.outcome, report.plan_kind) == ("applied", PlanKind.PARTIAL)
    assert plan(first.model, second.model).changed_partitions == ("p2",)
    assert (counters.boots, counters.replacements, counters.switches) == (1, 1, 0)
    assert (done.scores == second.golden_scores).all()
    assert (second.golden_scores != first.golden_scores).any()


def test_trees_go_the_same_way_from_model_to_board(tmp_path):
    model = random_tree_model(n_trees=8, depth=3, n_inputs=6)
    key = create_signing_key(tmp_path / "builder.key")
    key.trusted.write(tmp_path / "builder.pub")
    packages = []
    for version, other in (("1", model), ("2", model.with_memory([model.threshold_raw + 3]))):
        (tmp_path / "model.npz").write_bytes(other.to_npz_bytes())
        spec = BuildSpec(
            model=tmp_path / "model.npz",
            out=tmp_path / f"{version}.lwpkg",
            signing_key=tmp_path / "builder.key",
            trusted_keys=tmp_path / "builder.pub",
            reuse=tmp_path / "1.lwpkg" if packages else None,
            version=version,
            toolchain="conifer",
            events=2000,
        )
        built = build(spec)
        packages.append(open_package(built.package, (key.trusted,)))
    assert built.reused_image
    assert plan(packages[0].model, packages[1].model).kind is PlanKind.WEIGHTS
    other_trees = random_tree_model(n_trees=8, depth=3, n_inputs=6, seed=2)
    other_trees = replace(other_trees, layout=packages[0].model.layout)
    assert plan(packages[0].model, other_trees).kind is PlanKind.PARTIAL
    with start_emulated_board(packages[0].path, tmp_path / "builder.pub") as process:
        board = IPbusBoard(process.address)
        assert apply(packages[1], board, (key.trusted,)).outcome == "applied"
        inputs = packages[1].golden_inputs
        scores, accepts = emulator_of(packages[1].model).run(inputs)
        done = board.process(inputs)
        board.close()
    assert (done.scores == scores).all()
    assert (done.scores < 0).any()  # negative scores cross the wire with their sign
    assert (done.accepts == accepts).all()
    with pytest.raises(ModelError, match="made of trees"):
        laid_out(model, find_toolchain("hls4ml"))
