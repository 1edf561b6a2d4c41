"""The SIM-to-HW bench of three models: build times, the speed of every image, and that no bit differs.

Every image gets its own model's events; a bit that differs ends the benchmark.
"""

import tempfile
import time
from pathlib import Path

import numpy as np

from hw.apply import apply, rollback
from hw.boards.emulated import start_emulated_board
from hw.boards.ipbus import IPbusBoard
from hw.emulator import Emulator
from hw.job import BuildSpec, build
from hw.package import open_package
from hw.signing import create_signing_key
from hw.toolchain import find_toolchain, laid_out
from tests.benchmarks.row import Row
from tests.support.hw import bench_models, corner_inputs, random_inputs

TOOLCHAINS = ("lumiwatch-rtl", "hls4ml", "da4ml")
WEIGHTS_MS = 100.0


def run(quick: bool) -> list[Row]:
    """Measure three models of a trigger's size; `quick` one small one."""
    models = bench_models(small=quick)[: 1 if quick else 3]
    with tempfile.TemporaryDirectory(prefix="lumiwatch-bench-") as folder:
        rows = [row for model in models for row in _model(model, Path(folder) / model.name, quick=quick)]
        return [*rows, *_board(models[0], Path(folder), quick=quick)]


def _model(model, folder, *, quick) -> list[Row]:
    count = 2_000 if quick else 100_000
    inputs = np.concatenate([random_inputs(count, model.n_inputs), corner_inputs(model.n_inputs)])
    emulator = Emulator(model)
    expected = np.column_stack([emulator.outputs(inputs), *emulator.run(inputs)])
    rows = []
    for name in TOOLCHAINS:
        toolchain = find_toolchain(name)
        mine = laid_out(model, toolchain)
        image = toolchain.build(toolchain.generate(mine, folder / name))
        scorer = toolchain.emulate(image.parts, mine)
        begun = time.perf_counter()
        found = scorer.outputs(inputs)
        seconds = time.perf_counter() - begun
        different = int(np.bitwise_count(found ^ expected).sum())
        if different:
            raise AssertionError(f"{different} bits of {name}'s {model.name} differ from the emulator")
        rows += [
            Row(
                name=f"{model.name}, {name}: bits that differ in {len(inputs):,} events",
                value=different,
                unit="bits",
                target="0",
                met=True,
            ),
            Row(name=f"{model.name}, {name}: image", value=len(inputs) / seconds, unit="events/s"),
            Row(name=f"{model.name}, {name}: build", value=image.seconds, unit="s"),
        ]
        if (latency := scorer.images.latency_cycles) is not None:
            rows.append(Row(name=f"{model.name}, {name}: latency", value=latency, unit="cycles"))
            interval = scorer.images.interval_cycles
            rows.append(Row(name=f"{model.name}, {name}: interval", value=interval, unit="cycles"))
    return rows


def _board(model, folder, *, quick) -> list[Row]:
    key = create_signing_key(folder / "builder.key")
    key.trusted.write(folder / "builder.pub")
    packages = []
    for number in (1, 2):
        changed = model.parameters()
        changed[model.segment("score.threshold").start] += number
        (folder / "model.npz").write_bytes(model.with_parameters(changed).to_npz_bytes())
        spec = BuildSpec(
            model=folder / "model.npz",
            out=folder / f"{number}.lwpkg",
            signing_key=folder / "builder.key",
            version=str(number),
            toolchain="lumiwatch-rtl",
            events=2_000,
            trusted_keys=folder / "builder.pub",
            reuse=folder / "1.lwpkg" if packages else None,
        )
        packages.append(open_package(build(spec).package, (key.trusted,)))
    inputs = random_inputs(500 if quick else 100_000, model.n_inputs)
    with start_emulated_board(packages[0].path, folder / "builder.pub") as process:
        board = IPbusBoard(process.address)
        begun = time.perf_counter()
        done = board.process(inputs)
        seconds = time.perf_counter() - begun
        different = int(np.bitwise_count(done.scores ^ Emulator(packages[0].model).scores(inputs)).sum())
        reports = []
        for _ in range(2 if quick else 10):
            reports.append(apply(packages[1], board, (key.trusted,)))
            rollback(board, packages[0], (key.trusted,))
        board.close()
    if different or not all(report.outcome == "applied" for report in reports):
        raise AssertionError(f"the board differs in {different} bits, or a load failed: {reports[0]}")
    whole = [1e3 * (one.load_s + one.switch_s + one.golden_s) for one in reports]
    return [
        Row(
            name=f"{model.name}, board: bits that differ in {len(inputs):,} events",
            value=different,
            unit="bits",
            target="0",
            met=True,
        ),
        Row(name=f"{model.name}, board", value=len(inputs) / seconds, unit="events/s"),
        Row(
            name=f"weights onto the board ({model.n_words} words): load, read back, switch, golden vectors",
            value=float(np.median(whole)),
            unit="ms",
            target=None if quick else f"< {WEIGHTS_MS:.0f} ms",
            met=None if quick else float(np.median(whole)) < WEIGHTS_MS,
        ),
        Row(
            name="of which the switch command; no event goes unscored",
            value=float(np.median([1e3 * one.switch_s for one in reports])),
            unit="ms",
        ),
    ]
