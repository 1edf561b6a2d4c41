import numpy as np
import pytest

from hw.chain import ImageChain
from hw.emulator import Emulator
from hw.errors import ImageError, StructureMismatch
from tests.support.hw import random_inputs, random_model


@pytest.fixture(scope="module")
def image(packages):
    return ImageChain.from_bytes(packages.first.images, packages.first.model)


@pytest.mark.parametrize("content", [b"", b"no library", b"\x7fELF but no more"])
def test_what_is_no_library_is_refused(content, tmp_path):
    path = tmp_path / "image.so"
    path.write_bytes(content)
    with pytest.raises(ImageError, match="cannot be loaded"):
        ImageChain({"p0": path}, random_model())


def test_wrong_shapes_and_types_never_reach_the_image(image, packages):
    memory = packages.first.model.memory()
    for inputs in (np.zeros((2, 56), np.int16), np.zeros((2, 57), np.int32), np.zeros(57, np.int16)):
        with pytest.raises(ImageError, match="takes int16"):
            image.run(inputs, memory)
    for words in (memory[:-1], memory.astype(np.int64)):
        with pytest.raises(ImageError, match="takes int32"):
            image.run(np.zeros((2, 57), np.int16), words)


def test_arrays_need_not_be_contiguous(image, packages):
    memory = packages.first.model.memory()
    inputs = np.arange(2 * 57 * 3, dtype=np.int16).reshape(57, 6).T
    assert (image.outputs(inputs, memory) == image.outputs(inputs.copy(), memory)).all()


def test_no_events_give_no_scores(image, packages):
    scores, accepts = image.run(np.empty((0, 57), np.int16), packages.first.model.memory())
    assert scores.shape == accepts.shape == (0,)


def test_the_outputs_of_the_last_layer_leave_with_score_and_decision(image, packages):
    model, inputs = packages.first.model, random_inputs(500, 57)
    emulator = Emulator(model)
    expected = np.column_stack([emulator.outputs(inputs), *emulator.run(inputs)])
    assert (image.outputs(inputs, model.memory()) == expected).all()


def test_a_partition_without_an_image_is_named(packages):
    with pytest.raises(ImageError, match="partition p0 has no image"):
        ImageChain({}, packages.first.model)


def test_an_image_of_another_structure_is_refused(packages):
    other = packages.other.model
    with pytest.raises(StructureMismatch, match="build the image again"):
        ImageChain.from_bytes(packages.first.images, other)
