"""The kinds of firmware models, and what all of them have: reading one, and the emulator that is its oracle.

A package, a plan and a board treat all alike. Refuses to know what is special about one kind.
"""

from __future__ import annotations

from typing import TypeAlias

from hw.archive import unzip_bytes
from hw.emulator import Emulator
from hw.errors import ModelError, PackageMalformed
from hw.layout import Partition
from hw.network import FirmwareModel
from hw.tree_emulator import TreeEmulator
from hw.trees import TreeModel, TreePartition

Model: TypeAlias = FirmwareModel | TreeModel
AnyPartition: TypeAlias = Partition | TreePartition
AnyEmulator: TypeAlias = Emulator | TreeEmulator

_MAXIMUM_BYTES = 64 << 20


def read_model(content: bytes) -> Model:
    """Read the NPZ of a model of either kind.

    Raises
    ------
    ModelError
        When it is none.
    """
    try:
        names = unzip_bytes(content, maximum_bytes=_MAXIMUM_BYTES, maximum_files=3, what="the model file")
    except PackageMalformed as error:
        raise ModelError(f"this is not a firmware model ({error}): write it with to_npz_bytes") from error
    return (TreeModel if "nodes.npy" in names else FirmwareModel).from_npz_bytes(content)


def emulator_of(model: Model) -> AnyEmulator:
    """Give the bit-accurate emulator of a model: the oracle of every bench."""
    return TreeEmulator(model) if isinstance(model, TreeModel) else Emulator(model)


def network_of(model: Model) -> FirmwareModel:
    """Give the network that a model is, for what only networks allow: most toolchains, and retraining.

    Raises
    ------
    ModelError
        When it is no network.
    """
    if isinstance(model, FirmwareModel):
        return model
    raise ModelError(
        f"model {model.name} is made of trees, this needs a network: build it with conifer, and train new "
        "trees instead of retraining these"
    )
