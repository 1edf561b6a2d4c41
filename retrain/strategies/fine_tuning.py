"""Strategies `bias`, `last_layer`, `layers` and `all_weights`: fine-tune some parameters on recent events.

The aim is the old score distribution on the new events, with the events in their old order. Parameters
stay on the firmware's grid; structure and threshold stay as they are. Refuses to know why the inputs moved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hw.emulator import Emulator
from hw.fixed_point import to_float
from hw.network import FirmwareModel
from retrain.encoder import AnomalyEncoder, encoder_of, with_segments_of
from retrain.strategies.base import Material, Proposal
from retrain.train import torch_threads
from retrain.train_settings import Progress

Choice = Callable[[FirmwareModel], tuple[str, ...]]
"""Which segments of a model a strategy may change."""


def bias(model: FirmwareModel) -> tuple[str, ...]:
    """Choose the biases of all layers."""
    return tuple(f"{layer.name}.bias" for layer in model.layers)


def last_layer(model: FirmwareModel) -> tuple[str, ...]:
    """Choose weights and biases of the last layer."""
    return _all_of(model, len(model.layers) - 1)


def layers(model: FirmwareModel) -> tuple[str, ...]:
    """Choose all layers but the first, which is the largest; of a single layer, that one."""
    return _all_of(model, min(1, len(model.layers) - 1))


def all_weights(model: FirmwareModel) -> tuple[str, ...]:
    """Choose every weight and bias."""
    return _all_of(model, 0)


def _all_of(model: FirmwareModel, first: int) -> tuple[str, ...]:
    return tuple(f"{layer.name}.{part}" for layer in model.layers[first:] for part in ("weight", "bias"))


@dataclass(frozen=True)
class TuningSettings:
    """How to fine-tune.

    Parameters
    ----------
    steps, batch_size, learning_rate
        Of Adam; the learning rate falls to zero along a cosine.
    order_weight
        Weight of every event's own rank beside the distribution of all ranks.
    rate_weight
        Weight of the accept rate's relative deviation.
    distillation_weight
        Weight of staying at the old answer on reference events. Drifted and reference events overlap, so
        this pulls against the aim: it only breaks ties between parameters that serve the aim equally.
    """

    steps: int = 600
    batch_size: int = 4096
    learning_rate: float = 3e-3
    order_weight: float = 0.05
    rate_weight: float = 0.1
    distillation_weight: float = 0.003


class FineTuning:
    """Fine-tunes the chosen segments.

    Parameters
    ----------
    name
        Name in policies and reports.
    choice
        Which segments may change.
    settings
        How to fine-tune.
    """

    def __init__(self, name: str, choice: Choice, settings: TuningSettings | None = None) -> None:
        self.name = name
        self._choice = choice
        self._settings = settings or TuningSettings()

    def segments(self, model: FirmwareModel) -> tuple[str, ...]:
        """Name the segments it may change."""
        return self._choice(model)

    def propose(self, material: Material, progress: Progress) -> Proposal:
        """Fine-tune a copy of the firmware's encoder, and put the chosen segments back onto the grid."""
        model = material.model
        segments = self.segments(model)
        encoder = encoder_of(model)
        trainable = _freeze_all_but(encoder, segments)
        with torch_threads(material.threads):
            _tune(encoder, trainable, material, self._settings, progress)
        candidate = with_segments_of(model, encoder, segments)
        words = int(np.count_nonzero(candidate.parameters() != model.parameters()))
        return Proposal(candidate, f"tuned {', '.join(segments)}: {words} words changed")


def _freeze_all_but(encoder: AnomalyEncoder, segments: tuple[str, ...]) -> list[torch.nn.Parameter]:
    trainable = []
    for name, layer in zip(encoder.layer_names, encoder.layers, strict=True):
        for part in ("weight", "bias"):
            parameter = layer.get_parameter(part)
            parameter.requires_grad = f"{name}.{part}" in segments
            if parameter.requires_grad:
                trainable.append(parameter)
    return trainable


def _tune(
    encoder: AnomalyEncoder,
    trainable: list[torch.nn.Parameter],
    material: Material,
    settings: TuningSettings,
    progress: Progress,
) -> None:
    """Bring the scores of recent events onto the reference's distribution, each near its own rank."""
    aim = _Aim.of(material)
    recent = torch.from_numpy(material.recent.astype(np.float32))
    reference = torch.from_numpy(material.reference.astype(np.float32))
    generator = torch.Generator().manual_seed(material.seed)
    optimiser = torch.optim.Adam(trainable, lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    even = (torch.arange(settings.batch_size) + 0.5) / settings.batch_size
    for step in range(settings.steps):
        now = torch.randint(len(recent), (settings.batch_size,), generator=generator)
        before = torch.randint(len(reference), (settings.batch_size,), generator=generator)
        ranks = aim.rank(encoder.score(recent[now]))
        distribution = ((torch.sort(ranks).values - even) ** 2).mean()
        order = ((ranks - aim.recent_ranks[now]) ** 2).mean()
        rate = torch.sigmoid((ranks - aim.threshold_rank) / _SOFT_RANK).mean()
        excess = rate / torch.sigmoid((even - aim.threshold_rank) / _SOFT_RANK).mean() - 1
        kept = ((aim.rank(encoder.score(reference[before])) - aim.reference_ranks[before]) ** 2).mean()
        loss = (
            distribution
            + settings.order_weight * order
            + settings.rate_weight * excess**2
            + settings.distillation_weight * kept
        )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            progress(step / settings.steps, f"step {step}/{settings.steps}: loss {loss.item():.2e}")


_KNOTS = 2049
"""Quantiles that describe the reference's score distribution."""

_SOFT_RANK = 0.005
"""Width of the softened accept decision, as a fraction of all events."""


@dataclass(frozen=True)
class _Aim:
    """The reference's score distribution, as a differentiable rank of a score (0 to 1).

    Distances of ranks are what the Kolmogorov-Smirnov and Cramer-von Mises statistics see, so every part of
    the distribution counts by its events.

    Parameters
    ----------
    scores, ranks
        float32, (knots,), strictly increasing scores and the reference's distribution function there.
    threshold_rank
        Rank of the threshold.
    recent_ranks
        Ranks of the recent events among themselves under the old model: the order to keep.
    reference_ranks
        Ranks of the reference events under the old model.
    """

    scores: Tensor
    ranks: Tensor
    threshold_rank: float
    recent_ranks: Tensor
    reference_ranks: Tensor

    @classmethod
    def of(cls, material: Material) -> _Aim:
        emulator, stage = Emulator(material.model), material.model.score_stage
        before = to_float(emulator.scores(material.reference), stage.result_format)
        now = to_float(emulator.scores(material.recent), stage.result_format)
        levels = np.linspace(0.0, 1.0, _KNOTS)
        scores, first = np.unique(np.quantile(before, levels), return_index=True)
        ranks = levels[first]
        ranks[-1] = 1.0
        threshold = float(to_float(stage.threshold_raw, stage.result_format))
        return cls(
            scores=_tensor(scores),
            ranks=_tensor(ranks),
            threshold_rank=float(np.interp(threshold, scores, ranks)),
            recent_ranks=_tensor(
                (np.argsort(np.argsort(now, kind="stable"), kind="stable") + 0.5) / len(now)
            ),
            reference_ranks=_tensor(np.interp(before, scores, ranks)),
        )

    def rank(self, scores: Tensor) -> Tensor:
        """Interpolate the reference's distribution function; beyond its ends the last slope goes on."""
        right = torch.searchsorted(self.scores, scores.detach()).clamp(1, len(self.scores) - 1)
        low, high = self.scores[right - 1], self.scores[right]
        slope = (self.ranks[right] - self.ranks[right - 1]) / (high - low)
        return self.ranks[right - 1] + slope * (scores - low)


def _tensor(values: npt.NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
