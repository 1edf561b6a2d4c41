"""Three models through every toolchain that runs here, torch and a board: not one bit may differ."""

import json

import pytest

from hw.bench_page import write_page, write_picture
from hw.boards.emulated import start_emulated_board
from hw.job import BenchSpec, BuildSpec, bench_package, build
from hw.signing import create_signing_key
from tests.support.hw import bench_models

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
