"""Strategy `input_recalibration`: undo a detector's gain where the firmware standardises its inputs.

Changes offsets and scales of momenta and nothing the network has learned, so the model answers as it
did before the drift. Refuses drifts that are no gain.
"""

from __future__ import annotations

import numpy as np

from hw.fixed_point import FixedFormat, quantise, to_float
from hw.network import FirmwareModel
from retrain.gain import GainEstimate, estimate_gain
from retrain.strategies.base import Material, Proposal
from retrain.train_settings import Progress
from streams.contracts.contract import Contract

_QUANTITY = "pt"


class InputRecalibration:
    """Divides out the gain of every object whose gain is significant."""

    name = "input_recalibration"

    def segments(self, model: FirmwareModel) -> tuple[str, ...]:  # noqa: ARG002 - one signature for all strategies
        """Name the segments it may change."""
        return ("input.offset", "input.scale")

    def propose(self, material: Material, progress: Progress) -> Proposal:
        """Estimate the gain of every object, and correct those that show one."""
        contract = material.contract
        groups = [group.name for group in contract.objects if _columns(contract, group.name)]
        estimates = []
        for number, name in enumerate(groups):
            progress(number / len(groups), f"gain of {name}")
            estimates.append(_estimate(material, name))
        found = [estimate for estimate in estimates if estimate.finding == "gain"]
        remarks = "; ".join(
            estimate.reason for estimate in estimates if estimate.finding != "compatible_with_one"
        )
        if not found:
            return Proposal(None, f"no object shows a gain ({remarks or 'all are compatible with 1'})",
                            tuple(estimates))  # fmt: skip
        model = material.model
        for estimate in found:
            model = recalibrated(model, contract, estimate.object, estimate.gain)
        return Proposal(model, remarks, tuple(estimates))


def recalibrated(model: FirmwareModel, contract: Contract, name: str, gain: float) -> FirmwareModel:
    """Divide the momenta of one object by a gain, in the firmware's input stage.

    Parameters
    ----------
    model
        The firmware model.
    contract
        Its contract.
    name
        The object.
    gain
        Momenta are this factor too large.

    Returns
    -------
    FirmwareModel
        With other words in `input.offset` and `input.scale` only.

    Notes
    -----
    A code c stands for the momentum c + m in LSB, m being the middle of code 0. The firmware computes
    (c - offset) * scale; it should see ((c + m) / g - m - offset) * scale, which is
    (c - offset') * scale' with scale' = scale / g and offset' = g * (offset + m) - m.
    """
    words = model.parameters().copy()
    offset, scale = model.segment("input.offset"), model.segment("input.scale")
    for column in _columns(contract, name):
        middle = _low_edge(contract, column) - contract.inputs[column].padding + 0.5
        old_offset = float(to_float(words[offset.start + column], offset.format))
        old_scale = float(to_float(words[scale.start + column], scale.format))
        words[offset.start + column] = _raw(gain * (old_offset + middle) - middle, offset.format)
        words[scale.start + column] = _raw(old_scale / gain, scale.format)
    return model.with_parameters(words)


def _estimate(material: Material, name: str) -> GainEstimate:
    contract = material.contract
    columns = _columns(contract, name)
    return estimate_gain(
        material.reference[:, columns],
        material.recent[:, columns],
        name=name,
        settings=material.gain,
        rng=np.random.default_rng(material.seed),
        padding=contract.inputs[columns[0]].padding,
        first_edge=_low_edge(contract, columns[0]),
    )


def _columns(contract: Contract, name: str) -> list[int]:
    """Find the inputs that hold the momentum of an object."""
    return [
        index
        for index, spec in enumerate(contract.inputs)
        # what a firmware stage rounded or saturated no longer shows a gain
        if spec.object == name and spec.quantity == _QUANTITY and not spec.staged
    ]


def _low_edge(contract: Contract, column: int) -> float:
    """Momentum at the lower edge of the padding code, in LSB of the streamed code."""
    spec = contract.inputs[column]
    half = 0.5 if spec.rounding == "nearest" else 0.0
    return float(spec.padding + (spec.offset - half) / 2**spec.shift)


def _raw(value: float, fmt: FixedFormat) -> int:
    """Quantise one number, staying inside the format."""
    return int(quantise(np.clip(value, fmt.raw_minimum * fmt.lsb, fmt.raw_maximum * fmt.lsb), fmt))
