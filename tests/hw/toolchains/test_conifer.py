import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from hw.errors import StructureMismatch, ToolchainAbsent, ToolchainError
from hw.fixed_point import FixedFormat
from hw.layout import Layout
from hw.toolchains.conifer import ConiferToolchain
from hw.tree_emulator import TreeEmulator
from hw.tree_import import TreeTarget, from_conifer
from hw.trees import LEAF, Tree
from tests.support.hw import corner_inputs, random_inputs, random_model
from tests.support.trees import random_tree_model

conifer_model = pytest.importorskip("conifer.model", reason="conifer is not installed")

needs_ghdl = pytest.mark.skipif(
    shutil.which("ghdl") is None, reason="GHDL is not installed: apt-get install ghdl"
)


def made(model, folder):
    toolchain = ConiferToolchain()
    model = replace(model, layout=toolchain.layout(model))
    project = toolchain.generate(model, folder)
    return model, project, toolchain.build(project)


@pytest.fixture(scope="module")
def forest(tmp_path_factory):
    """Give a model of six trees, one of them a lone leaf, its project and its image."""
    return made(random_tree_model(), tmp_path_factory.mktemp("conifer") / "project")


@pytest.fixture(scope="module")
def lone(tmp_path_factory):
    """Give a model of one tree whose score wraps, its project and its image."""
    value, score = FixedFormat.parse("fixed<12,3,RND,SAT>"), FixedFormat.parse("ufixed<6,1,RND_CONV,WRAP>")
    model = random_tree_model(n_trees=1, depth=4, seed=3, value_format=value, score_format=score)
    return made(model, tmp_path_factory.mktemp("conifer") / "project")


def events(n, seed=2):
    return np.concatenate([random_inputs(n, 4, seed=seed, low=-200, high=200), corner_inputs(4)])


def expected(model, inputs):
    return TreeEmulator(model).partition(0, inputs.astype(np.int64))


@pytest.mark.parametrize("name", ["forest", "lone"])
def test_the_cpp_agrees_with_the_emulator_in_every_bit(name, request):
    model, _, image = request.getfixturevalue(name)
    inputs = events(20_000)
    answers = ConiferToolchain().emulate(image.parts, model).outputs(inputs)
    assert (answers == expected(model, inputs)).all()
    assert len(np.unique(answers[:, 1])) > 5
    assert 0 < answers[:, 2].mean() < 1


@needs_ghdl
@pytest.mark.parametrize(("name", "n"), [("forest", 10_000), ("lone", 2_000)])
def test_the_vhdl_agrees_with_the_emulator_in_every_bit(name, n, request):
    model, project, _ = request.getfixturevalue(name)
    inputs = events(n, seed=6)
    assert (ConiferToolchain().simulate_vhdl(project, inputs) == expected(model, inputs)).all()


def test_without_ghdl_it_says_how_to_get_it(forest, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainAbsent, match="apt-get install ghdl") as caught:
        ConiferToolchain().simulate_vhdl(forest[1], events(1))
    assert caught.value.commands == ("apt-get install ghdl",)


def test_the_threshold_is_loadable(forest):
    model, _, image = forest
    inputs = events(500)
    other = model.with_memory([model.threshold_raw + 40])
    _, accepts = ConiferToolchain().emulate(image.parts, other).run(inputs)
    assert (accepts == TreeEmulator(other).accepts(inputs)).all()
    assert (accepts != TreeEmulator(model).accepts(inputs)).any()


def test_calls_at_the_same_time_do_not_disturb_each_other(forest):
    model, _, image = forest
    chain = ConiferToolchain().emulate(image.parts, model)
    batches = [events(1000, seed=seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(chain.outputs, batches))
    for batch, answers in zip(batches, found, strict=True):
        assert (answers == expected(model, batch)).all()


def test_an_image_of_other_trees_is_refused(forest):
    model, _, image = forest
    other = replace(model, trees=(*model.trees[:-1], Tree([LEAF], [0], [LEAF], [LEAF], [6])))
    with pytest.raises(StructureMismatch, match="p0"):
        ConiferToolchain().emulate(image.parts, other)


def test_conifers_own_reader_understands_the_trees(forest):
    model, project, _ = forest
    configuration = {"backend": "python", "output_dir": str(project.folder), "project_name": "trees"}
    read = conifer_model.load_model(str(project.folder / "trees.json"), new_config=configuration)
    inputs = events(200)
    sums = TreeEmulator(model).outputs(inputs)[:, 0]
    assert (read.decision_function(inputs) == sums).all()
    # and back again: whole numbers are exact in any format
    whole = FixedFormat.parse("fixed<20,20>")
    target = TreeTarget("again", "c0ffee", model.input_names, whole, whole, threshold=0)
    assert (TreeEmulator(from_conifer(read, target)).outputs(inputs)[:, 0] == sums).all()


def test_the_same_model_gives_the_same_bytes_and_names_nobody(forest, tmp_path):
    model, project, image = forest
    _, _, again = made(model, tmp_path / "again")
    assert again.sources == image.sources
    assert again.parts["p0"].read_bytes() == image.parts["p0"].read_bytes()
    for content in image.sources.values():
        assert str(project.folder).encode() not in content
    assert {"cpp/conifer.h", "vhdl/firmware/BDT.vhd", "vhdl/firmware/LumiwatchTop.vhd"} <= set(image.sources)


def test_image_and_estimate_tell_the_same_latency(forest):
    model, project, image = forest
    resources = ConiferToolchain().estimate(project)
    chain = ConiferToolchain().emulate(image.parts, model).images
    assert resources.latency_cycles == chain.latency_cycles == model.depth + 3 + 3 + 1
    assert resources.interval_cycles == chain.interval_cycles == 1
    assert resources.source == "estimate"
    assert resources.luts > 100
    assert image.resources == (resources,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value_format": FixedFormat(31, 20)}, r"needs fixed<34,23>, conifer's VHDL has 32 bits"),
        ({"score_format": FixedFormat(31, -26)}, r"cannot become fixed<31,-26> exactly"),
    ],
)
def test_what_conifer_cannot_represent_is_refused_by_format(change, message):
    with pytest.raises(ToolchainError, match=message):
        ConiferToolchain().layout(replace(random_tree_model(threshold=0), **change))


def test_trees_too_deep_for_the_vhdl_are_refused():
    with pytest.raises(ToolchainError, match=r"is 11 deep, conifer's VHDL has room for 10"):
        ConiferToolchain().layout(random_tree_model(depth=11, n_trees=2))


def test_a_network_is_refused(tmp_path):
    network = random_model((4, 3))
    for act in (
        ConiferToolchain().layout,
        lambda model: ConiferToolchain().generate(model, tmp_path / "project"),
    ):
        with pytest.raises(ToolchainError, match="anomaly is a network"):
            act(network)


def test_another_layout_and_a_used_folder_are_refused(forest, tmp_path):
    model, project, _ = forest
    with pytest.raises(ToolchainError, match="laid out for da4ml"):
        ConiferToolchain().generate(replace(model, layout=Layout("da4ml")), tmp_path / "project")
    with pytest.raises(ToolchainError, match="not empty"):
        ConiferToolchain().generate(model, project.folder)
    with pytest.raises(ToolchainError, match="is no conifer project"):
        ConiferToolchain().estimate(replace(project, folder=tmp_path))


def test_it_says_what_it_found():
    status = ConiferToolchain().probe()
    assert status.available
    assert status.version in status.reason
    assert not ConiferToolchain(compiler="no-such-compiler").probe().available
