"""The SIM-to-HW bench of three models: build times, the speed of every image, and that no bit differs.

Every implementation scores the same events; a bit that differs from the emulator ends the benchmark.
"""

import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from hw.apply import apply, rollback
from hw.boards.emulated import start_emulated_board
from hw.boards.ipbus import IPbusBoard
from hw.chain import ImageChain
from hw.emulator import Emulator
from hw.job import BuildSpec, build
from hw.package import open_package
from hw.signing import create_signing_key
from hw.toolchain import find_toolchain, laid_out
from tests.benchmarks.row import Row
from tests.support.hw import bench_models, corner_inputs, random_inputs

OTHERS = ("hls4ml", "da4ml")
WEIGHTS_MS = 100.0


def run(quick: bool) -> list[Row]:
    """Measure three models of a trigger's size; `quick` one small one and our own engine alone."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="lumiwatch-bench-") as folder:
        for model in bench_models(small=quick)[: 1 if quick else 3]:
            rows += _model(model, Path(folder) / model.name, quick=quick)
    return rows


def _model(model, folder, *, quick) -> list[Row]:
    folder.mkdir()
    inputs = random_inputs(2_000 if quick else 100_000, model.n_inputs)
    inputs = np.concatenate([inputs, corner_inputs(model.n_inputs)])
    emulator = Emulator(model)
    expected = np.column_stack([emulator.outputs(inputs), *emulator.run(inputs)])
    key = create_signing_key(folder / "builder.key")
    key.trusted.write(folder / "builder.pub")
    package, seconds = _package(model, folder, "first", key)
    chain = ImageChain.from_bytes(package.images, package.model).bind(package.model.memory())
    rows = _image("lumiwatch-rtl", model, chain, inputs, expected, seconds)
    for name in () if quick else OTHERS:
        toolchain = find_toolchain(name)
        mine = laid_out(model, toolchain)
        image = toolchain.build(toolchain.generate(mine, folder / name))
        rows += _image(name, model, toolchain.emulate(image.parts, mine), inputs, expected, image.seconds)
    return [*rows, *_board(model, folder, package, key, inputs, expected, quick=quick)]


def _package(model, folder, name, key, reuse=None):
    (folder / f"{name}.npz").write_bytes(model.to_npz_bytes())
    spec = BuildSpec(
        model=folder / f"{name}.npz",
        out=folder / f"{name}.lwpkg",
        signing_key=folder / "builder.key",
        trusted_keys=folder / "builder.pub",
        version=name,
        events=2_000,
        reuse=reuse,
    )
    result = build(spec)
    return open_package(result.package, (key.trusted,)), result.build_s


def _image(name, model, chain, inputs, expected, seconds) -> list[Row]:
    begun = time.perf_counter()
    found = chain.outputs(inputs)
    rate = len(inputs) / (time.perf_counter() - begun)
    what = f"{model.name}, {name}"
    rows = [
        _bits(what, found ^ expected),
        Row(name=f"{what}: image", value=rate, unit="events/s"),
        Row(name=f"{what}: build", value=seconds, unit="s"),
    ]
    cycles = {"latency": chain.images.latency_cycles, "interval": chain.images.interval_cycles}
    rows += [Row(name=f"{what}: {key}", value=n, unit="cycles") for key, n in cycles.items() if n is not None]
    return rows


def _bits(what, differences) -> Row:
    different = int(np.bitwise_count(differences).sum())
    if different:
        raise AssertionError(f"{different} bits of {what} differ from the emulator")
    name = f"{what}: bits that differ in {len(differences):,} events"
    return Row(name=name, value=0, unit="bits", target="0", met=True)


def _board(model, folder, first, key, inputs, expected, *, quick) -> list[Row]:
    words = first.model.parameters()
    words[model.segment("score.threshold").start] += 1
    second, _ = _package(first.model.with_parameters(words), folder, "second", key, folder / "first.lwpkg")
    trusted = (key.trusted,)
    with (
        start_emulated_board(first.path, folder / "builder.pub") as process,
        closing(IPbusBoard(process.address)) as board,
    ):
        begun = time.perf_counter()
        done = board.process(inputs)
        rate = len(inputs) / (time.perf_counter() - begun)
        reports = []
        for _ in range(2 if quick else 10):
            reports.append(apply(second, board, trusted))
            rollback(board, first, trusted)
            board.load_inactive(np.zeros(model.n_words, np.int32))  # so that the next one loads again
    if not all(report.outcome == "applied" and report.loaded_words == model.n_words for report in reports):
        raise AssertionError(f"a load of {model.name} failed: {reports[0]}")
    what = f"{model.name}, board"
    whole = float(np.median([1e3 * (one.load_s + one.switch_s + one.golden_s) for one in reports]))
    answers = np.column_stack([done.scores, done.accepts])
    return [
        _bits(what, answers ^ expected[:, -2:]),
        Row(name=what, value=rate, unit="events/s"),
        Row(
            name=f"{what}: {model.n_words} words loaded, read back, switched, golden vectors",
            value=whole,
            unit="ms",
            target=None if quick else f"< {WEIGHTS_MS:.0f} ms",
            met=None if quick else whole < WEIGHTS_MS,
        ),
        Row(
            name=f"{what}: of it the switch; no event goes unscored",
            value=float(np.median([1e3 * one.switch_s for one in reports])),
            unit="ms",
        ),
    ]
