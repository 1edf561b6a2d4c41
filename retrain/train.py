"""Training of the anomaly model: a variational auto-encoder of which the firmware keeps the encoder.

Deterministic on one machine: the same dataset, settings and seed give the same words. Refuses to know drift,
boards and where the dataset came from.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hw.emulator import Emulator
from hw.formats import DEFAULT_FORMATS, NetworkFormats
from hw.network import FirmwareModel
from retrain.encoder import AnomalyEncoder, quantise_encoder
from retrain.errors import ContractMismatch, TooFewEvents, TrainingFailed
from retrain.train_settings import (
    MINIMUM_EVENTS,
    EpochLoss,
    Progress,
    TrainingRecord,
    TrainSettings,
    no_progress,
)
from streams.contracts.contract import Contract, InputSpec
from streams.events.dataset import Dataset
from streams.events.resample import resample


@dataclass(frozen=True)
class TrainedModel:
    """A firmware model fresh from training, and its record."""

    firmware: FirmwareModel
    record: TrainingRecord


def train(
    dataset: Dataset,
    contract: Contract,
    *,
    name: str,
    settings: TrainSettings | None = None,
    formats: NetworkFormats = DEFAULT_FORMATS,
    progress: Progress = no_progress,
) -> TrainedModel:
    """Train an anomaly model and put it on the firmware's grid.

    Parameters
    ----------
    dataset
        Ordinary events.
    contract
        The one the dataset was made under.
    name
        Name of the monitored model.
    settings, formats
        How to train, and the fixed-point formats.
    progress
        Called after every epoch.

    Raises
    ------
    ContractMismatch
        When the dataset was made under another contract.
    TooFewEvents
        When the dataset has fewer than `MINIMUM_EVENTS` events.
    TrainingFailed
        When the loss became NaN or the score cannot tell events apart.
    """
    settings = settings or TrainSettings()
    if dataset.contract_hash != contract.hash:
        raise ContractMismatch(
            f"the dataset was made under contract {dataset.contract_hash[:12]}, "
            f"not '{contract.name}' {contract.hash[:12]}: convert it again"
        )
    if dataset.n_events < MINIMUM_EVENTS:
        raise TooFewEvents(f"{dataset.n_events} events cannot train a model: give at least {MINIMUM_EVENTS}")
    started = time.perf_counter()
    rng = np.random.default_rng(settings.seed)
    events = resample(dataset, contract, settings.training_events, rng)
    with torch_threads(settings.threads):
        encoder, losses = _fit(dataset.inputs, events, contract, settings, progress)
    model = quantise_encoder(encoder, contract, name=name, formats=formats)
    calibration = resample(dataset, contract, settings.threshold_events, rng)
    model, accept_rate = with_accept_rate(model, calibration, settings.target_accept_rate)
    record = _record(model, dataset, settings, accept_rate, losses, time.perf_counter() - started)
    progress(1.0, f"trained: accepts {accept_rate:.2%} of events")
    return TrainedModel(model, record)


def with_accept_rate(
    model: FirmwareModel, inputs: npt.NDArray[np.int16], target: float
) -> tuple[FirmwareModel, float]:
    """Set the threshold so that the bit-accurate accept rate on `inputs` comes closest to `target`.

    Returns
    -------
    tuple
        The model and the accept rate reached.

    Raises
    ------
    TrainingFailed
        When ties of the score leave the rate further than a tenth from the target.
    """
    scores = np.sort(Emulator(model).scores(inputs))
    threshold = int(scores[len(scores) - 1 - round(target * len(scores))])
    rate = float(np.mean(scores > threshold))
    if abs(rate - target) > 0.1 * target:
        raise TrainingFailed(
            f"no threshold accepts {target:.2%} of the events (closest {rate:.2%}): the score hardly varies; "
            "train longer or with a smaller beta"
        )
    words = model.parameters().copy()
    words[model.segment("score.threshold").start] = threshold
    return model.with_parameters(words), rate


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Run torch with so many threads and deterministic algorithms, and restore what was set before."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])


def input_affine(
    inputs: npt.NDArray[np.int16], contract: Contract, settings: TrainSettings
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Choose offset and scale of every input.

    Parameters
    ----------
    inputs
        int16, (n, n_inputs).

    Returns
    -------
    tuple
        Two arrays (n_inputs,). A momentum is divided by the spread of its object's present slots, and
        an absent one stays at zero, so that a gain is undone by the scale alone. Any other quantity is
        centred on its range.
    """
    offset, scale = np.zeros(contract.n_inputs), np.ones(contract.n_inputs)
    for group in contract.objects:
        for quantity in group.quantities:
            columns = [
                index
                for index, spec in enumerate(contract.inputs)
                if (spec.object, spec.quantity) == (group.name, quantity.name)
            ]
            spec = contract.inputs[columns[0]]
            if _is_momentum(spec):
                values = inputs[:, columns].astype(np.float64)
                present = values[values != spec.padding]
                spread = float(present.std()) if present.size > 1 else 0.0
                offset[columns], scale[columns] = spec.padding, 1.0 / max(spread, 1.0)
            else:
                spread = max((spec.maximum - spec.minimum) / np.sqrt(12.0), 1.0)
                offset[columns] = round((spec.maximum + spec.minimum) / 2)
                scale[columns] = settings.angle_spread / spread
    return offset, scale


def _is_momentum(spec: InputSpec) -> bool:
    return spec.quantity == "pt"


def _fit(
    dataset_inputs: npt.NDArray[np.int16],
    events: npt.NDArray[np.int16],
    contract: Contract,
    settings: TrainSettings,
    progress: Progress,
) -> tuple[AnomalyEncoder, list[EpochLoss]]:
    """Train encoder, variance head and decoder; keep the encoder."""
    offset, scale = input_affine(dataset_inputs, contract, settings)
    generator = torch.Generator().manual_seed(settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        encoder = AnomalyEncoder(offset, scale, settings.widths)
        auto_encoder = _AutoEncoder(encoder, settings.widths)
    weights = torch.tensor(_reconstruction_weights(contract, settings), dtype=torch.float32)
    inputs = torch.from_numpy(events.astype(np.float32))
    steps = settings.epochs * -(-len(inputs) // settings.batch_size)
    optimiser = torch.optim.Adam(auto_encoder.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    losses = []
    for epoch in range(settings.epochs):
        sums, order = np.zeros(2), torch.randperm(len(inputs), generator=generator)
        for batch in torch.split(order, settings.batch_size):
            reconstruction, divergence = auto_encoder.losses(inputs[batch], weights, generator)
            optimiser.zero_grad()
            (reconstruction + settings.beta * divergence).backward()  # type: ignore[no-untyped-call]  # torch has no types here
            optimiser.step()
            schedule.step()
            sums += len(batch) * np.array([reconstruction.item(), divergence.item()])
        losses.append(EpochLoss(reconstruction=sums[0] / len(inputs), divergence=sums[1] / len(inputs)))
        if not np.isfinite(sums).all():
            raise TrainingFailed(f"the loss became NaN in epoch {epoch + 1}: lower the learning rate")
        progress(
            0.9 * (epoch + 1) / settings.epochs,
            f"epoch {epoch + 1}/{settings.epochs}: reconstruction {losses[-1].reconstruction:.3f}, "
            f"divergence {losses[-1].divergence:.3f}",
        )
    return encoder, losses


class _AutoEncoder(nn.Module):
    """What training needs beside the encoder: the variance head and the decoder."""

    def __init__(self, encoder: AnomalyEncoder, widths: Sequence[int]) -> None:
        super().__init__()
        self.encoder = encoder
        n_inputs, n_latent = len(encoder.offset), widths[-1]
        self.log_variance = nn.Linear(widths[-2] if len(widths) > 1 else n_inputs, n_latent)
        sizes = [n_latent, *reversed(widths[:-1])]
        hidden: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            hidden += [nn.Linear(n_in, n_out), nn.ReLU()]
        self.decoder = nn.Sequential(*hidden, nn.Linear(sizes[-1], n_inputs))

    def losses(self, inputs: Tensor, weights: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Give the weighted reconstruction error and the divergence from the prior, per event."""
        standardised = self.encoder.standardise(inputs)
        hidden = self.encoder.hidden(standardised)
        mean = self.encoder.layers[-1](hidden)
        log_variance = self.log_variance(hidden).clamp(-8.0, 4.0)
        noise = torch.randn(mean.shape, generator=generator)
        decoded = self.decoder(mean + noise * torch.exp(0.5 * log_variance))
        reconstruction = (weights * (decoded - standardised) ** 2).sum(dim=1).mean()
        divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(dim=1).mean()
        return reconstruction, divergence


def _reconstruction_weights(contract: Contract, settings: TrainSettings) -> npt.NDArray[np.float64]:
    unknown = set(settings.object_weights) - {group.name for group in contract.objects}
    if unknown:
        raise TrainingFailed(
            f"contract '{contract.name}' has no object {', '.join(sorted(unknown))}: mend object_weights"
        )
    return np.array(
        [
            settings.object_weights.get(spec.object, settings.other_weight)
            * (1.0 if _is_momentum(spec) else settings.angle_weight)
            for spec in contract.inputs
        ]
    )


def _record(
    model: FirmwareModel,
    dataset: Dataset,
    settings: TrainSettings,
    accept_rate: float,
    losses: list[EpochLoss],
    seconds: float,
) -> TrainingRecord:
    content = {
        "model": model.name,
        "dataset_id": dataset.id,
        "contract_hash": model.contract_hash,
        "structure_hash": model.structure_hash,
        "weights_hash": model.weights_hash,
        "settings": settings.model_dump(mode="json"),
        "torch_version": torch.__version__,
        "target_accept_rate": settings.target_accept_rate,
        "accept_rate": accept_rate,
        "threshold_raw": model.score_stage.threshold_raw,
        "losses": [loss.model_dump() for loss in losses],
    }
    return TrainingRecord.model_validate({"id": content_id(content), "seconds": seconds, **content})


def content_id(content: object) -> str:
    """Identify a record by its content: sha256 hex of the canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
