from dataclasses import replace

from hw.plan import PlanKind, plan
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
