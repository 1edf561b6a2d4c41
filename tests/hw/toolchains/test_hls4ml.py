from dataclasses import replace

import numpy as np
import pytest

from hw.emulator import Emulator
from hw.errors import CompilerMissing, StructureMismatch, ToolchainError
from hw.fixed_point import FixedFormat
from hw.formats import NetworkFormats
from hw.toolchain import Image, laid_out
from hw.toolchains.hls4ml import Hls4mlToolchain
from tests.support.hw import corner_inputs, random_inputs, random_model

ODD_FORMATS = NetworkFormats(
    offset=FixedFormat.parse("fixed<20,16>"),
    scale=FixedFormat.parse("fixed<18,2,RND,SAT>"),
    standardised=FixedFormat.parse("fixed<14,6,RND_CONV,SAT>"),
    weight=FixedFormat.parse("fixed<9,3>"),
    bias=FixedFormat.parse("fixed<13,2>"),
    hidden=FixedFormat.parse("ufixed<12,5,RND,SAT>"),
    latent=FixedFormat.parse("fixed<12,6,TRN,WRAP>"),
    score=FixedFormat.parse("ufixed<18,14,RND_CONV,SAT>"),
)


def image(model, folder):
    toolchain = Hls4mlToolchain()
    return toolchain.build(toolchain.generate(laid_out(model, toolchain), folder))


@pytest.fixture(scope="module")
def demo(packages, tmp_path_factory):
    """Give the model and the image of the demonstration network."""
    package = packages.first
    path = tmp_path_factory.mktemp("demo") / "image.so"
    path.write_bytes(package.images["p0"])
    return package.model, Image({"p0": path}, 0.0, package.sources)


def assert_bit_exact(built, model, inputs):
    scores, accepts = Hls4mlToolchain().emulate(built.parts, model).run(inputs)
    emulator = Emulator(model)
    assert (scores == emulator.scores(inputs)).all()
    assert (accepts == emulator.accepts(inputs)).all()
    return scores


def test_the_image_agrees_with_the_emulator_in_every_bit(demo):
    model, built = demo
    inputs = np.concatenate([random_inputs(25_000, 57), corner_inputs(57)])
    scores = assert_bit_exact(built, model, inputs)
    assert len(np.unique(scores)) > 10_000
    assert scores.max() == model.score_stage.result_format.raw_maximum  # saturation was reached


def test_it_still_agrees_when_only_the_memory_changes(demo):
    model, built = demo
    inputs = np.concatenate([random_inputs(25_000, 57, seed=8), corner_inputs(57)])
    rng = np.random.default_rng(4)
    before = assert_bit_exact(built, model, inputs)
    anywhere = [
        rng.integers(s.format.raw_minimum, s.format.raw_maximum + 1, s.words) for s in model.segments()
    ]
    extreme = [rng.choice([s.format.raw_minimum, s.format.raw_maximum], s.words) for s in model.segments()]
    trained = random_model((57, 32, 16, 8), seed=99).memory()
    for words in (trained, np.concatenate(anywhere), np.concatenate(extreme), np.zeros(model.n_words, int)):
        after = assert_bit_exact(built, model.with_memory(words), inputs)
        assert (after != before).any()


@pytest.mark.parametrize("name", ["odd formats", "linear only"])
def test_other_formats_and_activations_agree_too(name, tmp_path):
    if name == "odd formats":
        model = random_model((7, 6, 3), formats=ODD_FORMATS)
    else:
        model = random_model((5, 4, 2))
        model = replace(model, layers=tuple(replace(layer, activation="linear") for layer in model.layers))
    n_inputs = model.n_inputs
    inputs = np.concatenate([random_inputs(20_000, n_inputs), corner_inputs(n_inputs)])
    assert_bit_exact(image(model, tmp_path / "project"), laid_out(model, Hls4mlToolchain()), inputs)


def test_sources_and_image_depend_on_the_structure_alone(demo, tmp_path):
    _, built = demo
    other = random_model((57, 32, 16, 8), seed=77)
    sparse = other.with_memory(np.zeros(other.n_words, int))
    again = image(sparse, tmp_path / "elsewhere")
    assert again.sources == built.sources
    assert again.parts["p0"].read_bytes() == built.parts["p0"].read_bytes()


def test_the_weights_are_arguments_of_the_network(demo):
    _, built = demo
    network = built.sources["lumiwatch_network.cpp"].decode()
    assert "dense1_weight_t w2[1824]" in network
    assert not any(name.startswith("weights/") for name in built.sources)
    assert not any("ap_types" in name for name in built.sources)
    assert sum(map(len, built.sources.values())) < 300_000


def test_an_image_of_another_structure_is_refused(demo):
    _, built = demo
    with pytest.raises(StructureMismatch, match="build the image again"):
        Hls4mlToolchain().emulate(built.parts, random_model((57, 4, 2)))


def test_without_a_compiler_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    toolchain = Hls4mlToolchain()
    status = toolchain.probe()
    assert not status.available
    assert "install g++" in status.reason
    project = toolchain.generate(laid_out(random_model((3, 2)), toolchain), tmp_path / "project")
    with pytest.raises(CompilerMissing, match="install g\\+\\+"):
        toolchain.build(project)


def test_a_compiler_that_fails_leaves_its_messages(tmp_path):
    toolchain = Hls4mlToolchain()
    project = toolchain.generate(laid_out(random_model((3, 2)), toolchain), tmp_path / "project")
    (project.folder / "firmware" / "lumiwatch_top.cpp").write_text("this is no C++")
    with pytest.raises(ToolchainError, match=r"compiler\.log"):
        toolchain.build(project)
    assert "this" in (project.folder / "compiler.log").read_text()


def test_a_folder_in_use_is_refused(tmp_path):
    (tmp_path / "precious").write_text("")
    with pytest.raises(ToolchainError, match="not empty"):
        Hls4mlToolchain().generate(laid_out(random_model((3, 2)), Hls4mlToolchain()), tmp_path)


def test_a_model_laid_out_for_another_toolchain_is_refused(tmp_path):
    with pytest.raises(ToolchainError, match="laid out for no toolchain"):
        Hls4mlToolchain().generate(random_model((3, 2)), tmp_path)
