from dataclasses import replace

import pytest

from hw.fixed_point import FixedFormat
from hw.plan import PlanKind, plan
from hw.toolchain import find_toolchain, laid_out
from tests.support.hw import random_model


def test_equal_models_need_nothing():
    made = plan(random_model(), random_model())
    assert (made.kind, made.transfer_bytes, made.changed_segments) == (PlanKind.NOTHING, 0, ())


def test_other_weights_need_a_reload_of_the_memory_and_no_dead_time():
    current = random_model()
    words = current.memory()
    words[current.segment("dense2.bias").start] += 1
    words[current.segment("score.threshold").start] += 1
    made = plan(current, current.with_memory(words))
    assert made.kind is PlanKind.WEIGHTS
    assert made.changed_segments == ("dense2.bias", "score.threshold")
    assert (made.changed_words, made.transfer_bytes) == (2, 4 * current.n_words)
    assert made.dead_time_s == 0.0


def test_another_structure_behind_the_same_edges_needs_its_partition_and_the_plan_says_what_differs():
    current = random_model()
    layer = replace(current.layers[1], activation="linear")
    made = plan(
        current,
        replace(current, layers=(current.layers[0], layer, current.layers[2])),
        image_bytes={"p0": 400_000 - 4 * current.n_words},
    )
    assert made.kind is PlanKind.PARTIAL
    assert "layers[1].activation: relu -> linear" in made.reason
    assert made.dead_time_s == 0.001
    assert made.changed_partitions == ("p0",)
    fewer = plan(current, random_model((6, 5, 3)))
    assert fewer.kind is PlanKind.FULL
    assert "layers: 3 -> 2 entries" in fewer.reason


def changed(model, name):
    """Give the model with another value in one parameter."""
    words = model.parameters()
    words[model.segment(name).start] ^= 1
    return model.with_parameters(words)


def retyped(model, layer, text):
    """Give the model with another result format in one layer."""
    layers = list(model.layers)
    layers[layer] = replace(layers[layer], result_format=FixedFormat.parse(text))
    return replace(model, layers=tuple(layers))


ALL_WEIGHTS = ("dense1.weight", "dense2.weight", "dense3.weight")


@pytest.mark.parametrize(
    ("what", "in_memory", "constant"),
    [
        ("input.offset", "weights", "weights"),
        ("input.scale", "weights", "weights"),
        ("score.threshold", "weights", "weights"),
        ("dense1.bias", "weights", "partial p0"),
        ("dense3.weight", "weights", "partial p2"),
        ("all weights", "weights", "partial p0 p1 p2"),
        ("precision at an edge", "full", "full"),
        ("precision behind the edges", "partial p1", "full"),
        ("architecture", "full", "full"),
        ("contract", "full", "full"),
    ],
)
def test_every_change_gets_the_least_invasive_way_of_each_kind_of_firmware(what, in_memory, constant):
    """With constants every layer is a partition: there is nothing behind the edges but the weights."""
    for toolchain, expected in (("lumiwatch-rtl", in_memory), ("da4ml", constant)):
        current = laid_out(random_model(), find_toolchain(toolchain))
        match what:
            case "all weights":
                new = current
                for name in ALL_WEIGHTS:
                    new = changed(new, name)
            case "precision at an edge":
                new = retyped(current, 0, "fixed<16,8,RND,SAT>")
            case "precision behind the edges":
                new = retyped(current, 1, "fixed<16,8,RND,SAT>")
            case "architecture":
                new = laid_out(random_model((6, 5, 5, 3)), find_toolchain(toolchain))
            case "contract":
                new = replace(current, contract_hash="another")
            case name:
                new = changed(current, name)
        made = plan(current, new, image_bytes={"p0": 1000, "p1": 1000, "p2": 1000}, event_rate_hz=750e3)
        names = f" {' '.join(made.changed_partitions)}" if made.kind is PlanKind.PARTIAL else ""
        assert f"{made.kind}{names}" == expected, (toolchain, made.reason)
        loses_nothing = made.kind is PlanKind.WEIGHTS
        assert (made.dead_time_s == 0.0) == (made.lost == "no event") == loses_nothing
        assert ("modelled" in made.dead_time_source) != loses_nothing


def test_another_toolchain_or_device_needs_everything():
    current = laid_out(random_model(), find_toolchain("lumiwatch-rtl"))
    made = plan(current, laid_out(random_model(), find_toolchain("hls4ml")))
    assert made.kind is PlanKind.FULL
    assert "toolchain: lumiwatch-rtl -> hls4ml" in made.reason
    elsewhere = replace(current, layout=replace(current.layout, part="LFE5U-45F"))
    assert "part:  -> LFE5U-45F" in plan(current, elsewhere).reason


def test_constants_that_change_are_named():
    current = laid_out(random_model(), find_toolchain("da4ml"))
    made = plan(current, changed(current, "dense2.bias"))
    assert "dense2.bias are constants of this firmware" in made.reason
    assert made.changed_partitions == ("p1",)


def test_who_approved_a_way_has_approved_the_less_invasive_ones():
    kinds = list(PlanKind)
    assert [[a.covers(b) for b in kinds] for a in kinds] == [
        [place <= row for place in range(len(kinds))] for row in range(len(kinds))
    ]
