"""The events a model is benched with: recorded, corner and reproducible random ones; golden vectors of them.

Refuses to know what is compared.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from hw.archive import npy_array
from hw.errors import JobError
from hw.fixed_point import to_float
from hw.models import Model
from hw.trees import TreeModel

GOLDEN_EVENTS = 512
_SEED = 20_260_101
_CORNERS = np.array([-32768, -1, 0, 1, 32767], dtype=np.int16)


def bench_inputs(recorded: Path | None, events: int, model: Model) -> npt.NDArray[np.int16]:
    """Give the events of a bench: recorded ones first, then corners, then reproducible random ones.

    Parameters
    ----------
    recorded
        `.npy` file of int16 events (n, n_inputs), if any.
    events
        How many there shall be; a tenth more are corners.

    Returns
    -------
    numpy.ndarray
        int16, (n, n_inputs).

    Raises
    ------
    JobError
        When the file cannot be read or holds events of another shape or type.
    """
    parts: list[npt.NDArray[np.int16]] = []
    if recorded is not None:
        parts.append(_recorded(recorded, model)[:events])
    rng = np.random.default_rng(_SEED)
    n_corners, n_random = max(1, events // 10), max(1, events - sum(map(len, parts)))
    typical = _typical(model, n_random, rng)
    parts.append(rng.choice(_CORNERS, (n_corners, model.n_inputs)))
    parts.append(np.clip(np.rint(typical), -32768, 32767).astype(np.int16))
    return np.concatenate(parts)


def golden_vectors(inputs: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Choose golden vectors evenly from all kinds of events."""
    chosen = np.linspace(0, len(inputs) - 1, min(GOLDEN_EVENTS, len(inputs))).astype(np.int64)
    return inputs[chosen]


def _recorded(path: Path, model: Model) -> npt.NDArray[np.int16]:
    try:
        found = npy_array(path.read_bytes(), str(path))
    except OSError as error:
        raise JobError(f"inputs {path} cannot be read ({error.strerror}): check the path") from error
    if found.ndim != 2 or found.shape[1] != model.n_inputs or found.dtype != np.int16:
        raise JobError(
            f"inputs {path} are {found.dtype} {found.shape}, model {model.name} takes int16 "
            f"(n, {model.n_inputs}): convert events with the model's contract"
        )
    return found.astype(np.int16)


def _typical(model: Model, count: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw inputs where the model decides something: around its offsets, or around its trees' cuts."""
    if isinstance(model, TreeModel):
        return _around_cuts(model, count, rng)
    stage = model.input_stage
    scale = np.maximum(np.abs(to_float(stage.scale_raw, stage.scale_format)), 1e-6)
    typical = rng.normal(0.0, 2.0, (count, model.n_inputs)) / scale
    return np.asarray(typical + to_float(stage.offset_raw, stage.offset_format))


def _around_cuts(model: TreeModel, count: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    feature = np.concatenate([tree.feature for tree in model.trees])
    threshold = np.concatenate([tree.threshold for tree in model.trees]).astype(np.float64)
    typical = np.empty((count, model.n_inputs))
    for index in range(model.n_inputs):
        cuts = threshold[feature == index]
        around = cuts if len(cuts) else np.zeros(1)
        width = max(1.0, float(np.ptp(around)) / 4)
        near = rng.choice(around, count) + rng.integers(-1, 2, count)
        typical[:, index] = np.where(rng.random(count) < 0.5, near, rng.normal(around.mean(), width, count))
    return typical
