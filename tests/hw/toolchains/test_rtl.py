from dataclasses import replace
from threading import Thread

import numpy as np
import pytest

from hw.chain import ImageChain
from hw.emulator import Emulator
from hw.errors import StructureMismatch, ToolchainError
from hw.fixed_point import FixedFormat
from hw.layout import Layout
from hw.network import FirmwareModel
from hw.rtl.timing import interval_cycles, latency_cycles
from hw.toolchain import find_toolchain
from hw.toolchains.rtl import RtlToolchain
from tests.support.hw import corner_inputs, random_inputs, random_model
from tests.support.odd_models import odd_inputs, odd_model

TOOLCHAIN = RtlToolchain()


def _laid_out(model: FirmwareModel, **changes) -> FirmwareModel:
    return replace(model, layout=replace(TOOLCHAIN.layout(model), **changes))


def _built(model, folder, toolchain=TOOLCHAIN):
    project = toolchain.generate(model, folder)
    return project, toolchain.build(project)


def _answers(model, inputs):
    return [list(item) for item in Emulator(model).run(inputs)]


@pytest.fixture(scope="module")
def encoder():
    """Give the demonstration network."""
    return _laid_out(random_model((57, 32, 16, 8), threshold=300.0))


@pytest.fixture(scope="module")
def built(encoder, tmp_path_factory):
    return _built(encoder, tmp_path_factory.mktemp("encoder") / "project")


def test_it_is_registered_and_says_what_it_found():
    assert isinstance(find_toolchain("lumiwatch-rtl"), RtlToolchain)
    status = TOOLCHAIN.probe()
    assert status.available
    assert "Verilator 5" in status.reason


def test_it_says_what_is_missing_and_the_cure(tmp_path, monkeypatch):
    missing = RtlToolchain(compiler="no-such-compiler").probe()
    assert not missing.available
    assert "install g++" in missing.reason
    monkeypatch.setenv("VERILATOR_ROOT", str(tmp_path))
    assert not TOOLCHAIN.probe().available


def test_the_encoder_answers_bit_by_bit_as_the_emulator(encoder, built):
    inputs = np.concatenate([corner_inputs(57), random_inputs(20_000, 57)])
    scores, accepts = TOOLCHAIN.emulate(built[1].parts, encoder).run(inputs)
    want = Emulator(encoder).run(inputs)
    assert (scores == want[0]).all()
    assert (accepts == want[1]).all()
    assert 0.1 < accepts.mean() < 0.9
    assert len(np.unique(scores)) > 10_000


def test_each_partition_answers_as_the_emulator_and_needs_the_documented_clocks(encoder, built):
    chain = ImageChain(built[1].parts, encoder)
    emulator = Emulator(encoder)
    values = random_inputs(500, 57).astype(np.int64)
    for image, partition in zip(chain._images, encoder.partitions(), strict=True):
        memory = encoder.memory()[partition.start : partition.stop]
        want = emulator.partition(partition.index, values)
        assert (image.run(values, memory) == want).all()
        assert image.latency_cycles == latency_cycles(partition)
        assert image.interval_cycles == interval_cycles(partition)
        values = want
    assert [partition.name for partition in encoder.partitions()] == ["p0", "p1"]


def test_new_parameters_take_no_new_image(encoder, built):
    inputs = random_inputs(300, 57)
    retrained = [
        replace(random_model((57, 32, 16, 8), seed=seed, threshold=200.0), layout=encoder.layout)
        for seed in (2, 3)
    ]
    scorers = [TOOLCHAIN.emulate(built[1].parts, model) for model in (encoder, *retrained)]
    for number in (0, 1, 0, 2, 1, 0, 2):
        want = Emulator((encoder, *retrained)[number]).scores(inputs)
        assert (scorers[number].run(inputs)[0] == want).all()


def test_threads_with_different_parameters_do_not_disturb_each_other(encoder, built):
    models = [encoder, replace(random_model((57, 32, 16, 8), seed=2), layout=encoder.layout)]
    inputs = random_inputs(200, 57)
    want = [Emulator(model).scores(inputs) for model in models]
    wrong = []

    def work(number):
        scorer = TOOLCHAIN.emulate(built[1].parts, models[number])
        wrong.extend((scorer.run(inputs)[0] != want[number]).sum() for _ in range(10))

    threads = [Thread(target=work, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [0] * 20


def test_no_parameter_value_is_in_the_sources(encoder, built, tmp_path):
    other = replace(random_model((57, 32, 16, 8), seed=9, threshold=1.0), layout=encoder.layout)
    project = TOOLCHAIN.generate(other, tmp_path)
    written = {
        path.relative_to(tmp_path).as_posix(): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert project.model is other
    assert written == dict(built[1].sources)


def test_another_partition_of_the_same_edges_fits_the_same_ports(encoder, tmp_path):
    first, second = (tmp_path / name for name in ("first", "second"))
    narrower = [replace(layer) for layer in encoder.layers]
    narrower[1] = replace(
        narrower[1], weight_raw=narrower[1].weight_raw >> 4, weight_format=FixedFormat(12, 4)
    )
    changed = replace(encoder, layers=tuple(narrower))
    TOOLCHAIN.generate(encoder, first)
    TOOLCHAIN.generate(changed, second)
    same = [name for name in ("lumiwatch_shell.sv", "lumiwatch_p0.sv", "lumiwatch_p1.sv")
            if (first / "rtl" / name).read_text() == (second / "rtl" / name).read_text()]  # fmt: skip
    assert same == ["lumiwatch_shell.sv", "lumiwatch_p0.sv"]
    headers = [(folder / "rtl" / "lumiwatch_p1.sv").read_text().split(");")[0] for folder in (first, second)]
    assert headers[0] == headers[1]
    assert changed.shell_hash == encoder.shell_hash


@pytest.mark.parametrize(("seed", "reuse"), [(1, 1), (6, 3)])
def test_odd_formats_are_bit_exact_and_the_image_reproducible(seed, reuse, tmp_path):
    model = odd_model(seed, wide=True)
    model = replace(model, layout=Layout("lumiwatch-rtl"))
    toolchain = RtlToolchain(reuse=reuse)
    _, image = _built(model, tmp_path / "a", toolchain)
    inputs = odd_inputs(model, 3000)
    assert [list(item) for item in toolchain.emulate(image.parts, model).run(inputs)] == _answers(
        model, inputs
    )
    if seed == 1:
        _, again = _built(model, tmp_path / "b", toolchain)
        assert again.parts["p0"].read_bytes() == image.parts["p0"].read_bytes()


def test_the_smallest_network_works_and_an_image_of_another_is_refused(tmp_path, encoder, built):
    model = _laid_out(random_model((1, 1)))
    assert len(model.partitions()) == 1
    _, image = _built(model, tmp_path / "project")
    inputs = corner_inputs(1)
    assert [list(item) for item in TOOLCHAIN.emulate(image.parts, model).run(inputs)] == _answers(
        model, inputs
    )
    with pytest.raises(StructureMismatch):
        TOOLCHAIN.emulate({**built[1].parts, **image.parts}, encoder)


def test_synthesis_finds_memories_multipliers_and_neither_latches_nor_loops(tmp_path):
    model = _laid_out(random_model((4, 3, 2)))
    found = TOOLCHAIN.estimate(TOOLCHAIN.generate(model, tmp_path))
    assert (found.source, found.tool.split()[0], found.latency_cycles) == (
        "yosys",
        "Yosys",
        4 + 11 + 10 + 1 + 4,
    )
    assert found.interval_cycles == 8
    assert found.brams == 3  # rows of 3 and of 2 words of 16 bits, 36 bits each
    assert found.dsps == 8  # one per lane, two for 24-bit scales, one for the squares
    assert 500 < (found.luts or 0) < 3000
    assert 500 < (found.registers or 0) < 3000


def test_what_it_cannot_make_is_refused_with_the_reason(encoder, tmp_path):
    with pytest.raises(ToolchainError, match="is laid out for hls4ml"):
        TOOLCHAIN.generate(replace(encoder, layout=Layout("hls4ml")), tmp_path)
    with pytest.raises(ToolchainError, match="give it the layout of lumiwatch-rtl"):
        TOOLCHAIN.generate(
            replace(encoder, layout=Layout("lumiwatch-rtl", constants=("dense1.bias",))), tmp_path
        )
    with pytest.raises(ToolchainError, match="reuse of 0"):
        RtlToolchain(reuse=0)
    with pytest.raises(ToolchainError, match="cut the model into more partitions"):
        TOOLCHAIN.generate(_laid_out(random_model((1030, 1030))), tmp_path)
    coarse, fine = FixedFormat(16, 30), FixedFormat(10, -50)
    far = replace(encoder.layers[2], weight_format=coarse, bias_format=coarse, result_format=fine)
    far_model = replace(encoder, layers=(*encoder.layers[:2], far))
    with pytest.raises(ToolchainError, match=r"dense3.*nearer binary points"):
        TOOLCHAIN.layout(far_model)
    (tmp_path / "a.sv").write_text("module a; endmodule")
    with pytest.raises(ToolchainError, match="is not empty"):
        TOOLCHAIN.generate(encoder, tmp_path)
