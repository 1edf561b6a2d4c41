"""Compiled partitions on this machine: what an emulated board runs, whichever toolchain made it.

Each partition is one shared library with the C functions of `docs/toolchains.md`; the output of one is the
input of the next. Bit-accurate. Refuses to know how an image was made. An image is code: load only verified
packages and own builds.
"""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hw.errors import ImageError, StructureMismatch
from hw.models import AnyPartition, Model

_EVENTS_PER_CALL = 65_536
"""Bounds the memory that the 64-bit copies of the values take."""


class PartitionImage:
    """One loaded image.

    Parameters
    ----------
    path
        The shared library.
    partition
        What it must compute.

    Raises
    ------
    ImageError
        When the file cannot be loaded or is no lumiwatch image.
    StructureMismatch
        When the image computes something else.
    """

    def __init__(self, path: Path, partition: AnyPartition) -> None:
        try:
            library = ctypes.CDLL(str(path.resolve()), mode=ctypes.RTLD_LOCAL)
            library.lumiwatch_structure.restype = ctypes.c_char_p
            self._run = library.lumiwatch_run
            structure: str = library.lumiwatch_structure().decode()
            built = (library.lumiwatch_inputs(), library.lumiwatch_outputs(), library.lumiwatch_words())
            self.latency_cycles: int | None = library.lumiwatch_latency() or None
            self.interval_cycles: int | None = library.lumiwatch_interval() or None
        except (OSError, AttributeError) as error:
            raise ImageError(f"image {path} cannot be loaded ({error}): build it on this machine") from error
        wanted = (partition.n_in, partition.n_outputs, partition.words)
        if built != wanted or structure != partition.structure_hash:
            raise StructureMismatch(
                f"image {path} has structure {structure[:12]} (inputs, outputs, words {built}), partition "
                f"{partition.name} {partition.structure_hash[:12]} {wanted}: build the image again"
            )
        self._run.restype = ctypes.c_int
        self._run.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p]
        self.n_inputs, self.n_outputs, self.n_words = wanted

    def run(self, values: npt.NDArray[np.int64], memory: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """Compute; thread-safe, and the lock of Python is released.

        Parameters
        ----------
        values
            int64, (n, n_inputs), raw, C-contiguous.
        memory
            int32, (n_words,), C-contiguous.

        Returns
        -------
        numpy.ndarray
            int64, (n, n_outputs), raw.
        """
        outputs = np.empty((len(values), self.n_outputs), dtype=np.int64)
        pointers = (memory.ctypes.data, outputs.ctypes.data)
        if len(values) and self._run(values.ctypes.data, len(values), *pointers) != 0:
            raise ImageError("the image refused its arguments: build it again")
        return outputs


class ImageChain:
    """All partitions of one firmware.

    Parameters
    ----------
    paths
        The shared library of every partition, by its name.
    model
        What they must compute.

    Raises
    ------
    ImageError
        When a partition has no image or it cannot be loaded.
    StructureMismatch
        When an image computes something else.
    """

    def __init__(self, paths: Mapping[str, Path], model: Model) -> None:
        self._partitions = model.partitions()
        if lacking := [p.name for p in self._partitions if p.name not in paths]:
            raise ImageError(f"partition {lacking[0]} has no image: build the firmware again")
        self._images = tuple(PartitionImage(paths[p.name], p) for p in self._partitions)
        self._slices = tuple(slice(p.start, p.stop) for p in self._partitions)
        self.n_inputs, self.n_words = model.n_inputs, model.n_words

    @classmethod
    def from_bytes(cls, images: Mapping[str, bytes], model: Model) -> ImageChain:
        """Load images from memory. Once they are mapped no file is needed: nothing is left behind."""
        with tempfile.TemporaryDirectory(prefix="lumiwatch-image-") as name:
            paths: dict[str, Path] = {}
            for partition in model.partitions():
                if (content := images.get(partition.name)) is not None:
                    paths[partition.name] = Path(name) / f"{partition.name}.so"
                    paths[partition.name].write_bytes(content)
            return cls(paths, model)

    @property
    def latency_cycles(self) -> int | None:
        """Clock cycles from an event in to its answer; None when an image does not know."""
        known = [image.latency_cycles for image in self._images]
        return None if None in known else sum(cycles or 0 for cycles in known)

    @property
    def interval_cycles(self) -> int | None:
        """Clock cycles between two events: the slowest partition's; None when an image does not know."""
        known = [image.interval_cycles for image in self._images]
        return None if None in known else max(cycles or 0 for cycles in known)

    def outputs(self, inputs: npt.NDArray[np.int16], memory: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """Compute everything that leaves the firmware.

        Parameters
        ----------
        inputs
            int16, (n, n_inputs).
        memory
            int32, (n_words,).

        Returns
        -------
        numpy.ndarray
            int64, (n, n_out + 2): the last layer's raw results, the raw score, the decision (0 or 1).

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
        words = [np.ascontiguousarray(memory[part]) for part in self._slices]
        results = np.empty((len(inputs), self._images[-1].n_outputs), dtype=np.int64)
        for start in range(0, len(inputs), _EVENTS_PER_CALL):
            values = inputs[start : start + _EVENTS_PER_CALL].astype(np.int64, order="C")
            for image, part in zip(self._images, words, strict=True):
                values = image.run(values, part)
            results[start : start + _EVENTS_PER_CALL] = values
        return results

    def run(
        self, inputs: npt.NDArray[np.int16], memory: npt.NDArray[np.int32]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Give raw scores, int64 (n,), and decisions, bool (n,); see `outputs`."""
        outputs = self.outputs(inputs, memory)
        return outputs[:, -2].copy(), outputs[:, -1] != 0

    def bind(self, memory: npt.NDArray[np.int32]) -> BoundChain:
        """Give these images together with one content of their memory."""
        return BoundChain(self, memory)


@dataclass(frozen=True, slots=True, eq=False)
class BoundChain:
    """The images and the content of their memory."""

    images: ImageChain
    memory: npt.NDArray[np.int32] = field(repr=False)

    def run(self, inputs: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Score int16 inputs (n, n_inputs): raw scores int64 (n,), decisions bool (n,)."""
        return self.images.run(inputs, self.memory)

    def outputs(self, inputs: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
        """Compute everything that leaves the firmware: int64, (n, n_out + 2); see `ImageChain.outputs`."""
        return self.images.outputs(inputs, self.memory)
