"""How to train, and what has to be known about a training. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field

Progress = Callable[[float, str], None]
"""Takes the fraction done, 0 to 1, and one line for people."""

MINIMUM_EVENTS = 200
DEFAULT_WIDTHS = (32, 16, 8)
"""Outputs of the dense layers of the demonstration model; the last one is the latent mean."""


def no_progress(fraction: float, message: str) -> None:
    """Report nothing."""


class TrainSettings(BaseModel):
    """How to train.

    Attributes
    ----------
    seed
        Of initial weights, augmentation, batches and latent noise.
    epochs, batch_size, learning_rate
        Of Adam; the learning rate falls to zero along a cosine.
    beta
        Weight of the Kullback-Leibler term (beta-VAE, Higgins et al., ICLR 2017).
    target_accept_rate
        Fraction of events the model accepts; sets the threshold on the bit-accurate score.
    training_events, threshold_events
        Events drawn from the dataset, turned and mirrored, to train on and to set the threshold with.
    object_weights
        Weight of an object's inputs in the reconstruction; objects not named weigh `other_weight`.
        The score responds to what the encoder must keep, so this is what the trigger is sensitive to.
    angle_weight, angle_spread
        Weight of angles relative to the momentum of the same object, and their spread at the encoder's input
        where a momentum has one: events are alike under rotation, so angles say little.
    widths
        Outputs of the dense layers, the latent mean last.
    threads
        Of torch; part of the settings because sums depend on it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=1, ge=0)
    epochs: int = Field(default=30, ge=1)
    batch_size: int = Field(default=512, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    beta: float = Field(default=0.5, ge=0)
    target_accept_rate: float = Field(default=0.08, gt=0, lt=0.5)
    training_events: int = Field(default=20_000, ge=MINIMUM_EVENTS)
    threshold_events: int = Field(default=200_000, ge=MINIMUM_EVENTS)
    object_weights: dict[str, float] = Field(default_factory=lambda: {"jet": 5.0})
    other_weight: float = Field(default=0.1, ge=0)
    angle_weight: float = Field(default=0.1, ge=0)
    angle_spread: float = Field(default=0.1, gt=0)
    widths: tuple[int, ...] = DEFAULT_WIDTHS
    threads: int = Field(default=1, ge=1)


class EpochLoss(BaseModel):
    """Mean losses of one epoch, per event."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reconstruction: float
    divergence: float


class TrainingRecord(BaseModel):
    """What has to be known about a training.

    Attributes
    ----------
    id
        sha256 hex over everything here but `seconds`.
    accept_rate
        Bit-accurate, on the threshold's events.
    losses
        One per epoch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    model: str
    dataset_id: str
    contract_hash: str
    structure_hash: str
    weights_hash: str
    settings: TrainSettings
    torch_version: str
    target_accept_rate: float
    accept_rate: float
    threshold_raw: int
    losses: list[EpochLoss]
    seconds: float
