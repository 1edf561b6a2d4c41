from dataclasses import replace

import numpy as np
import pytest

from hw.emulator import Emulator
from hw.errors import CompilerMissing, StructureMismatch, ToolchainError
from hw.fixed_point import FixedFormat
from hw.formats import DEFAULT_FORMATS, NetworkFormats
from hw.toolchain import find_toolchain, laid_out
from hw.toolchains.hls4ml_backends import Hls4mlBackendToolchain
from tests.support.hw import corner_inputs, logit_model, random_inputs, random_model

BACKENDS = ("vivado", "quartus", "catapult")
ODD_FORMATS = NetworkFormats(
    offset=FixedFormat.parse("fixed<20,16>"),
    scale=FixedFormat.parse("fixed<18,2,RND,SAT>"),
    standardised=FixedFormat.parse("fixed<14,6,RND_CONV,SAT>"),
    weight=FixedFormat.parse("fixed<9,-1>"),
    bias=FixedFormat.parse("fixed<13,2>"),
    hidden=FixedFormat.parse("ufixed<12,5,RND,SAT>"),
    latent=FixedFormat.parse("fixed<12,6,RND_CONV,WRAP>"),
    score=FixedFormat.parse("ufixed<18,14,RND_CONV,SAT>"),
)


def built(model, backend, folder):
    """Give the model as the backend holds it, and its image."""
    toolchain = find_toolchain(f"hls4ml-{backend}")
    model = laid_out(model, toolchain)
    return model, toolchain.build(toolchain.generate(model, folder))


@pytest.fixture(scope="module", params=BACKENDS)
def firmware(request, tmp_path_factory):
    """Give toolchain, model and image, once per backend."""
    model, image = built(
        random_model((7, 6, 3), formats=ODD_FORMATS), request.param, tmp_path_factory.mktemp("p")
    )
    return find_toolchain(f"hls4ml-{request.param}"), model, image


def assert_bit_exact(toolchain, model, image):
    inputs = np.concatenate(
        [
            random_inputs(18_000, model.n_inputs),
            random_inputs(5_000, model.n_inputs, low=-32768, high=32767, seed=9),
            corner_inputs(model.n_inputs),
        ]
    )
    answers = toolchain.emulate(image.parts, model).outputs(inputs)
    emulator = Emulator(model)
    assert (answers[:, :-2] == emulator.outputs(inputs)).all()
    assert (answers[:, -2] == emulator.scores(inputs)).all()
    assert (answers[:, -1] == emulator.accepts(inputs)).all()
    return answers


def test_the_image_agrees_with_the_emulator_in_every_bit(firmware):
    toolchain, model, image = firmware
    answers = assert_bit_exact(toolchain, model, image)
    assert len(np.unique(answers[:, -2])) > 500
    assert {0, 1} == set(answers[:, -1])


def test_only_input_stage_and_threshold_are_memory_and_can_be_reloaded(firmware):
    toolchain, model, image = firmware
    assert [s.name for s in model.segments()] == ["input.offset", "input.scale", "score.threshold"]
    rng = np.random.default_rng(4)
    words = [rng.choice([s.format.raw_minimum, s.format.raw_maximum, 1], s.words) for s in model.segments()]
    other = model.with_memory(np.concatenate(words))
    assert other.structure_hash == model.structure_hash
    before = assert_bit_exact(toolchain, model, image)
    assert (assert_bit_exact(toolchain, other, image) != before).any()


def test_the_weights_are_constants_of_its_sources(firmware):
    _, model, image = firmware
    text = "".join(content.decode() for path, content in image.sources.items() if path.startswith("weights/"))
    for raw in model.layers[0].weight_raw.ravel():
        assert f"{raw * model.layers[0].weight_format.lsb:.10f}" in text
    assert b"load_weights_from_txt" not in image.parts["p0"].read_bytes()
    assert not any(path.startswith(("ap_types/", "ac_")) for path in image.sources)
    assert sum(map(len, image.sources.values())) < 400_000


def test_an_image_with_other_weights_is_refused(firmware):
    toolchain, _, image = firmware
    other = laid_out(random_model((7, 6, 3), formats=ODD_FORMATS, seed=2), toolchain)
    with pytest.raises(StructureMismatch, match="build the image again"):
        toolchain.emulate(image.parts, other)


def test_a_classifier_too_and_the_same_sources_give_the_same_bytes(tmp_path):
    model, first = built(logit_model((5, 4, 3)), "quartus", tmp_path / "first")
    assert_bit_exact(find_toolchain("hls4ml-quartus"), model, first)
    _, second = built(logit_model((5, 4, 3)), "quartus", tmp_path / "elsewhere" / "second")
    assert first.sources == second.sources
    assert first.parts["p0"].read_bytes() == second.parts["p0"].read_bytes()


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_it_says_about_itself(backend, tmp_path):
    toolchain = find_toolchain(f"hls4ml-{backend}")
    assert toolchain.name == f"hls4ml-{backend}"
    status = toolchain.probe()
    assert status.available
    assert backend in status.reason.lower()
    model = random_model((3, 2))
    sparse = replace(model, layers=(replace(model.layers[0], weight_raw=np.array([[0, 5], [7, 0], [0, 0]])),))
    project = toolchain.generate(laid_out(sparse, toolchain), tmp_path / "project")
    assert toolchain.estimate(project).dsps == 3 + 2 + 2
    names = {path.name for path in (project.folder / "firmware").iterdir()}
    assert {"lumiwatch_network.cpp", "lumiwatch_csim.cpp", "weights"} <= names
    assert [path.name for path in project.folder.iterdir()] == ["firmware"]


def test_one_bit_is_refused_where_hls4ml_would_widen_it():
    formats = replace(DEFAULT_FORMATS, hidden=FixedFormat.parse("ufixed<1,1>"))
    model = random_model((3, 3, 2), formats=formats)
    assert find_toolchain("hls4ml-vivado").layout(model).constants
    for backend in ("quartus", "catapult"):
        with pytest.raises(ToolchainError, match=r"layer dense1: result ufixed<1,1>"):
            find_toolchain(f"hls4ml-{backend}").layout(model)


def test_a_layer_too_large_for_the_stack_is_refused():
    with pytest.raises(ToolchainError, match=r"dense1 has 300 x 300 weights"):
        find_toolchain("hls4ml-vivado").layout(random_model((300, 300)))


def test_without_a_compiler_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    toolchain = find_toolchain("hls4ml-catapult")
    assert not toolchain.probe().available
    assert "install g++" in toolchain.probe().reason
    project = toolchain.generate(laid_out(random_model((3, 2)), toolchain), tmp_path / "project")
    with pytest.raises(CompilerMissing, match="install g\\+\\+"):
        toolchain.build(project)


def test_an_unknown_backend_is_refused():
    with pytest.raises(ToolchainError, match="Vivado, Quartus, Catapult"):
        Hls4mlBackendToolchain("VHDL")
