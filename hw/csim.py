"""A compiled image on this machine: the C simulation of a firmware, loaded as a shared library.

Bit-accurate, not cycle-accurate. It checks that image and model belong together before it hands over memory.
Refuses to know how the image was made. An image is code: load only verified packages and own builds.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hw.errors import ImageError, StructureMismatch


class CSim:
    """A loaded image.

    Parameters
    ----------
    path
        The shared library.
    n_inputs, n_words
        What the caller will hand over: inputs per event, words of memory.
    structure_hash
        The structure the caller expects, if known.

    Raises
    ------
    ImageError
        When the file cannot be loaded or is no lumiwatch image.
    StructureMismatch
        When the image computes something else.
    """

    def __init__(self, path: Path, n_inputs: int, n_words: int, structure_hash: str | None = None) -> None:
        try:
            library = ctypes.CDLL(str(path.resolve()), mode=ctypes.RTLD_LOCAL)
            library.lumiwatch_structure.restype = ctypes.c_char_p
            self._run = library.lumiwatch_run
            self.structure_hash: str = library.lumiwatch_structure().decode()
            built = (library.lumiwatch_inputs(), library.lumiwatch_words())
        except (OSError, AttributeError) as error:
            raise ImageError(f"image {path} cannot be loaded ({error}): build it on this machine") from error
        if built != (n_inputs, n_words) or structure_hash not in (None, self.structure_hash):
            raise StructureMismatch(
                f"image {path} has structure {self.structure_hash[:12]} ({built[0]} inputs, {built[1]} words)"
                f", the model {(structure_hash or '?')[:12]} ({n_inputs}, {n_words}): build the image again"
            )
        self._run.restype = ctypes.c_int
        self._run.argtypes = [ctypes.c_void_p, ctypes.c_int64, *[ctypes.c_void_p] * 3]
        self.n_inputs, self.n_words = n_inputs, n_words

    def run(
        self, inputs: npt.NDArray[np.int16], memory: npt.NDArray[np.int32]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Score events with the parameters in `memory`; thread-safe, and the lock of Python is released.

        Parameters
        ----------
        inputs
            int16, (n, n_inputs).
        memory
            int32, (n_words,).

        Returns
        -------
        tuple
            Raw scores, int64 (n,), and decisions, bool (n,).

        Raises
        ------
        ImageError
            When shapes or types do not fit.
        """
        if inputs.ndim != 2 or inputs.shape[1] != self.n_inputs or inputs.dtype != np.int16:
            raise ImageError(f"the image takes int16 (n, {self.n_inputs}), not {inputs.dtype} {inputs.shape}")
        if memory.shape != (self.n_words,) or memory.dtype != np.int32:
            raise ImageError(
                f"the image takes int32 ({self.n_words},) words, not {memory.dtype} {memory.shape}"
            )
        codes, words = np.ascontiguousarray(inputs), np.ascontiguousarray(memory)
        scores = np.empty(len(codes), dtype=np.int64)
        accepts = np.empty(len(codes), dtype=np.uint8)
        pointers = (words.ctypes.data, scores.ctypes.data, accepts.ctypes.data)
        if len(codes) and self._run(codes.ctypes.data, len(codes), *pointers) != 0:
            raise ImageError("the image refused its arguments: build it again")
        return scores, accepts.astype(np.bool_)

    def scores(self, inputs: npt.NDArray[np.int16], memory: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """Give the raw scores alone; see `run`."""
        return self.run(inputs, memory)[0]

    def bind(self, memory: npt.NDArray[np.int32]) -> BoundCSim:
        """Give this image together with one content of its memory."""
        return BoundCSim(self, memory)


@dataclass(frozen=True, slots=True, eq=False)
class BoundCSim:
    """An image and the content of its memory."""

    image: CSim
    memory: npt.NDArray[np.int32] = field(repr=False)

    def run(self, inputs: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Score int16 inputs (n, n_inputs): raw scores int64 (n,), decisions bool (n,)."""
        return self.image.run(inputs, self.memory)
