"""The anomaly encoder: the network that a firmware model mirrors, in floating point.

Turns encoders into firmware models and back. Refuses to know datasets, losses and boards.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hw.fixed_point import FixedFormat, quantise, to_float
from hw.formats import DEFAULT_FORMATS, NetworkFormats
from hw.network import DenseLayer, FirmwareModel, InputStage, ScoreStage
from retrain.errors import EncoderMismatch
from retrain.train_settings import DEFAULT_WIDTHS
from streams.contracts.contract import Contract


class AnomalyEncoder(nn.Module):
    """Affine input stage, dense layers with ReLU between them, and the sum of squares as the score.

    Parameters
    ----------
    offset, scale
        float, (n_inputs,): the network sees `(x - offset) * scale`. They are no trainable parameters.
    widths
        Outputs of each dense layer, the latent mean last.

    Notes
    -----
    The score is the anomaly metric of a variational auto-encoder cut down to its means, as in CMS AXOL1TL
    (CMSSW, AXOL1TLCondition.cc): the distance of the latent means from the prior, `sum mu^2`.
    """

    offset: Tensor
    scale: Tensor

    def __init__(
        self,
        offset: npt.NDArray[np.float64],
        scale: npt.NDArray[np.float64],
        widths: Sequence[int] = DEFAULT_WIDTHS,
    ) -> None:
        super().__init__()
        self.register_buffer("offset", torch.tensor(offset, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))
        sizes = (len(offset), *widths)
        self.layers = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in pairwise(sizes))
        self.layer_names = tuple(f"dense{number}" for number in range(1, len(sizes)))

    def standardise(self, inputs: Tensor) -> Tensor:
        """Apply the input stage: float32, (n, n_inputs) -> (n, n_inputs)."""
        return (inputs - self.offset) * self.scale

    def hidden(self, standardised: Tensor) -> Tensor:
        """Give the last hidden layer's output: float32, (n, n_hidden)."""
        values = standardised
        for layer in self.layers[:-1]:
            values = torch.relu(layer(values))
        return values

    def forward(self, inputs: Tensor) -> Tensor:
        """Give the latent means of integer codes held as float32: (n, n_inputs) -> (n, n_latent)."""
        return torch.as_tensor(self.layers[-1](self.hidden(self.standardise(inputs))))

    def score(self, inputs: Tensor) -> Tensor:
        """Give the anomaly score: float32, (n, n_inputs) -> (n,)."""
        latent: Tensor = self(inputs)
        return (latent * latent).sum(dim=1)


def quantise_encoder(
    encoder: AnomalyEncoder,
    contract: Contract,
    *,
    name: str,
    threshold: float = 0.0,
    formats: NetworkFormats = DEFAULT_FORMATS,
) -> FirmwareModel:
    """Put an encoder on the firmware's fixed-point grid.

    Parameters
    ----------
    encoder
        The trained encoder.
    contract
        Names the inputs; must have as many as the encoder.
    name
        Name of the monitored model.
    threshold
        Score above which an event is accepted.
    formats
        Formats of every stage.

    Returns
    -------
    FirmwareModel
        Parameters outside their format saturate.

    Raises
    ------
    EncoderMismatch
        When the contract has another number of inputs or the encoder holds NaN.
    """
    if contract.n_inputs != len(encoder.offset):
        raise EncoderMismatch(
            f"the encoder takes {len(encoder.offset)} inputs, contract '{contract.name}' has "
            f"{contract.n_inputs}: train it under this contract"
        )
    if not all(torch.isfinite(tensor).all() for tensor in encoder.state_dict().values()):
        raise EncoderMismatch("the encoder holds NaN or infinity: lower the learning rate and train again")
    last = len(encoder.layers) - 1
    layers = tuple(
        DenseLayer(
            name=layer_name,
            weight_raw=quantise(_array(layer.get_parameter("weight")).T, formats.weight),
            bias_raw=quantise(_array(layer.get_parameter("bias")), formats.bias),
            weight_format=formats.weight,
            bias_format=formats.bias,
            activation="linear" if number == last else "relu",
            result_format=formats.latent if number == last else formats.hidden,
        )
        for number, (layer_name, layer) in enumerate(zip(encoder.layer_names, encoder.layers, strict=True))
    )
    return FirmwareModel(
        name=name,
        contract_hash=contract.hash,
        input_names=contract.input_names,
        input_stage=InputStage(
            offset_raw=quantise(_array(encoder.offset), formats.offset),
            scale_raw=quantise(_array(encoder.scale), formats.scale),
            scale_format=formats.scale,
            result_format=formats.standardised,
            offset_format=formats.offset,
        ),
        layers=layers,
        score_stage=ScoreStage("sum_of_squares", formats.score, int(quantise(threshold, formats.score))),
    )


def encoder_of(model: FirmwareModel) -> AnomalyEncoder:
    """Read a firmware model back into an encoder; quantising it again gives the same words.

    Parameters
    ----------
    model
        Dense layers with ReLU between them and a linear last one.

    Raises
    ------
    EncoderMismatch
        When the layers' activations are others, or the score is none of an anomaly encoder's.
    """
    if model.score_stage.kind != "sum_of_squares":
        raise EncoderMismatch(
            f"the score of model {model.name} is a {model.score_stage.kind}, lumiwatch trains encoders whose "
            "score is a sum of squares: retrain it where it was trained and ingest the result"
        )
    activations = [layer.activation for layer in model.layers]
    if activations != ["relu"] * (len(activations) - 1) + ["linear"]:
        raise EncoderMismatch(
            f"model {model.name} has the activations {', '.join(activations)}: "
            "an encoder has relu in every layer but the last, which is linear"
        )
    stage = model.input_stage
    encoder = AnomalyEncoder(
        to_float(stage.offset_raw, stage.offset_format),
        to_float(stage.scale_raw, stage.scale_format),
        [layer.n_out for layer in model.layers],
    )
    encoder.layer_names = tuple(layer.name for layer in model.layers)
    with torch.no_grad():
        for layer, linear in zip(model.layers, encoder.layers, strict=True):
            linear.get_parameter("weight").copy_(
                torch.from_numpy(to_float(layer.weight_raw, layer.weight_format).T.copy())
            )
            linear.get_parameter("bias").copy_(torch.from_numpy(to_float(layer.bias_raw, layer.bias_format)))
    return encoder


def with_segments_of(model: FirmwareModel, encoder: AnomalyEncoder, segments: Sequence[str]) -> FirmwareModel:
    """Replace just the named segments of a firmware model by the encoder's parameters, on the same grid.

    Parameters
    ----------
    model
        The firmware model; its structure and all other segments stay.
    encoder
        Made by `encoder_of` from a model of the same structure.
    segments
        Names such as `dense3.bias`; `score.threshold` is no parameter of an encoder.

    Raises
    ------
    EncoderMismatch
        When the encoder has no such parameter or holds NaN.
    """
    words = model.parameters().copy()
    parameters = _parameters(encoder)
    for name in segments:
        if name not in parameters:
            raise EncoderMismatch(f"the encoder has no '{name}': there are {', '.join(parameters)}")
        values = parameters[name]
        if not np.isfinite(values).all():
            raise EncoderMismatch(f"'{name}' holds NaN or infinity: lower the learning rate and train again")
        segment = model.segment(name)
        words[segment.start : segment.stop] = _saturated(values, segment.format)
    return model.with_parameters(words)


def _parameters(encoder: AnomalyEncoder) -> dict[str, npt.NDArray[np.float64]]:
    """Flat parameters by segment name, in the firmware's order (weights input-major)."""
    found = {"input.offset": _array(encoder.offset), "input.scale": _array(encoder.scale)}
    for name, layer in zip(encoder.layer_names, encoder.layers, strict=True):
        found[f"{name}.weight"] = _array(layer.get_parameter("weight")).T.ravel()
        found[f"{name}.bias"] = _array(layer.get_parameter("bias"))
    return found


def _saturated(values: npt.NDArray[np.float64], fmt: FixedFormat) -> npt.NDArray[np.int64]:
    """Quantise, and stop at the ends of the range even where the format itself would wrap."""
    return quantise(np.clip(values, fmt.raw_minimum * fmt.lsb, fmt.raw_maximum * fmt.lsb), fmt)


def _array(tensor: Tensor) -> npt.NDArray[np.float64]:
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float64)
