import numpy as np
import pytest

from hw.csim import CSim
from hw.errors import ImageError


@pytest.fixture(scope="module")
def image(packages, tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "image.so"
    path.write_bytes(packages.first.image)
    return CSim(path, 57, packages.first.model.n_words)


@pytest.mark.parametrize("content", [b"", b"no library", b"\x7fELF but no more"])
def test_what_is_no_library_is_refused(content, tmp_path):
    path = tmp_path / "image.so"
    path.write_bytes(content)
    with pytest.raises(ImageError, match="cannot be loaded"):
        CSim(path, 1, 1)


def test_wrong_shapes_and_types_never_reach_the_image(image, packages):
    memory = packages.first.model.memory()
    for inputs in (np.zeros((2, 56), np.int16), np.zeros((2, 57), np.int32), np.zeros(57, np.int16)):
        with pytest.raises(ImageError, match="takes int16"):
            image.scores(inputs, memory)
    for words in (memory[:-1], memory.astype(np.int64)):
        with pytest.raises(ImageError, match="takes int32"):
            image.scores(np.zeros((2, 57), np.int16), words)


def test_arrays_need_not_be_contiguous(image, packages):
    memory = packages.first.model.memory()
    inputs = np.arange(2 * 57 * 3, dtype=np.int16).reshape(57, 6).T
    assert (image.scores(inputs, memory) == image.scores(inputs.copy(), memory)).all()


def test_no_events_give_no_scores(image, packages):
    assert image.scores(np.empty((0, 57), np.int16), packages.first.model.memory()).shape == (0,)
