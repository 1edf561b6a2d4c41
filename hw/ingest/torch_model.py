"""A trained torch module as a firmware model: linear layers, ReLU and what folds into them.

Weights are rounded into the target's formats; what saturates is an error. Refuses to know how the module was
trained; torch is imported when it is needed.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hw.archive import npy_array, unzip_bytes
from hw.errors import ModelError, PackageMalformed
from hw.ingest.target import IngestTarget, LayerFormats, on_grid
from hw.network import DenseLayer, FirmwareModel

if TYPE_CHECKING:
    from torch import Tensor, nn

_SUPPORTED = "Sequential, Linear, ReLU, BatchNorm1d, Dropout, Identity"
_MAXIMUM_BYTES = 64 << 20
_MAXIMUM_FILES = 4096

_Floats = npt.NDArray[np.float64]


def from_torch(module: nn.Module, target: IngestTarget, *, saturate: bool = False) -> FirmwareModel:
    """Put a trained torch network on the firmware's grid.

    Parameters
    ----------
    module
        A `torch.nn.Sequential`, nested or not, of Linear, ReLU, BatchNorm1d, Dropout and Identity, as it
        computes in evaluation mode. A BatchNorm1d becomes part of the linear layer next to it; before the
        first one, of the input stage.
    target
        What the firmware needs beside it.
    saturate
        Allow parameters outside their format; they become the nearest end of it.

    Returns
    -------
    FirmwareModel
        Its layers are `dense1`, `dense2`, ...

    Raises
    ------
    ModelError
        For any other module, parameters that are not finite or saturate, and shapes that do not fit.
    """
    import torch  # noqa: PLC0415 - it takes seconds, and a board does not need it

    network = _Network(target)
    with torch.no_grad():
        for path, part in _flattened(module, "module"):
            network.add(path, part)
    return network.firmware(saturate=saturate)


def load_weights(module: nn.Module, content: bytes) -> None:
    """Fill a module with the parameters of a file; nothing in the file is ever executed.

    Parameters
    ----------
    module
        Changed in place.
    content
        What `torch.save(module.state_dict(), ...)` wrote, or an NPZ with one array per entry of it.

    Raises
    ------
    ModelError
        When the file is damaged, too large, no state dict, or of another module.
    """
    import torch  # noqa: PLC0415 - as above

    try:
        state = _read_state(content)
        module.load_state_dict({name: torch.as_tensor(value) for name, value in state.items()}, strict=True)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, EOFError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"this file does not fit the module ({reason}): save its own state_dict with torch.save or savez"
        ) from error


def _read_state(content: bytes) -> dict[str, Tensor | npt.NDArray[np.generic]]:
    import torch  # noqa: PLC0415 - as above

    if len(content) > _MAXIMUM_BYTES:
        raise ModelError(f"the state dict exceeds {_MAXIMUM_BYTES >> 20} MiB: save the parameters alone")
    try:
        files = unzip_bytes(
            content, maximum_bytes=_MAXIMUM_BYTES, maximum_files=_MAXIMUM_FILES, what="the state dict"
        )
        if all(name.endswith(".npy") for name in files):
            return {name.removesuffix(".npy"): npy_array(data, name) for name, data in files.items()}
    except PackageMalformed as error:
        raise ModelError(f"this is no state dict: {error}") from error
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (RuntimeError, zipfile.BadZipFile, OSError) as error:
        raise ModelError(f"torch cannot read this state dict: {str(error)[:200]}") from error
    except Exception as error:  # pickle.UnpicklingError, by whatever the restricted reader met
        raise ModelError(
            "this file holds more than parameters and is not read: save module.state_dict() with torch.save"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ModelError("this file is no state dict: save module.state_dict() with torch.save")
    return state


def _flattened(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    from torch import nn  # noqa: PLC0415 - as above

    if type(module) is not nn.Sequential:
        yield path, module
        return
    for name, child in module.named_children():
        yield from _flattened(child, f"{path}.{name}")


class _Layer:
    """A linear layer as real numbers: weight (n_in, n_out) and bias (n_out,)."""

    def __init__(self, path: str, weight: _Floats, bias: _Floats) -> None:
        self.path, self.weight, self.bias, self.relu = path, weight, bias, False


class _Network:
    """Takes modules in the order of the data and folds what is affine into its neighbour."""

    def __init__(self, target: IngestTarget) -> None:
        self._target = target
        self._offset, self._scale = target.affine()
        self._layers: list[_Layer] = []
        self._gain: _Floats | None = None  # of a BatchNorm1d behind a ReLU: it goes into the next layer
        self._shift: _Floats | None = None

    @property
    def _width(self) -> int:
        return self._layers[-1].weight.shape[1] if self._layers else len(self._target.input_names)

    def add(self, path: str, module: nn.Module) -> None:
        from torch import nn  # noqa: PLC0415 - as above

        # exact types: a subclass, such as a quantised layer of another library, computes something else
        if type(module) is nn.Linear:
            self._add_linear(path, module)
        elif type(module) is nn.BatchNorm1d:
            self._add_norm(path, module)
        elif type(module) is nn.ReLU:
            if not self._layers or self._gain is not None:
                raise ModelError(f"{path} (ReLU) must follow a Linear: the input stage has no activation")
            self._layers[-1].relu = True
        elif type(module) not in (nn.Dropout, nn.Identity):
            kind = f"{type(module).__module__}.{type(module).__qualname__}"
            raise ModelError(f"{path} ({kind}) has no firmware: supported are {_SUPPORTED}")

    def _add_linear(self, path: str, module: nn.Linear) -> None:
        weight = _array(f"{path} (Linear) weight", module.weight).T
        bias = (
            np.zeros(weight.shape[1]) if module.bias is None else _array(f"{path} (Linear) bias", module.bias)
        )
        if len(weight) != self._width:
            raise ModelError(
                f"{path} (Linear) takes {len(weight)} inputs, what comes before gives {self._width}: "
                "the layers do not fit together"
            )
        if self._gain is not None and self._shift is not None:
            weight, bias = self._gain[:, None] * weight, bias + self._shift @ weight
            self._gain = self._shift = None
        self._layers.append(_Layer(path, weight, bias))

    def _add_norm(self, path: str, module: nn.BatchNorm1d) -> None:
        what = f"{path} (BatchNorm1d)"
        if module.running_mean is None or module.running_var is None:
            raise ModelError(f"{what} keeps no running statistics: train with track_running_stats=True")
        mean, variance = _array(f"{what} running_mean", module.running_mean), module.running_var
        if len(mean) != self._width:
            raise ModelError(f"{what} takes {len(mean)} values, what comes before gives {self._width}")
        spread = np.sqrt(_array(f"{what} running_var", variance) + module.eps)
        weight = np.ones_like(mean) if module.weight is None else _array(f"{what} weight", module.weight)
        gain = weight / spread
        shift = -mean * gain
        if module.bias is not None:
            shift = shift + _array(f"{what} bias", module.bias)
        if not self._layers:
            self._fold_into_input(what, gain, shift)
        elif self._layers[-1].relu:
            before = np.zeros_like(gain) if self._shift is None else self._shift
            self._gain = gain if self._gain is None else gain * self._gain
            self._shift = shift + gain * before
        else:
            layer = self._layers[-1]
            layer.weight, layer.bias = layer.weight * gain, layer.bias * gain + shift

    def _fold_into_input(self, what: str, gain: _Floats, shift: _Floats) -> None:
        scale = self._scale * gain
        if dead := np.flatnonzero((scale == 0) & (shift != 0)).tolist():
            raise ModelError(
                f"{what} makes input {dead[0]} a constant, which no input stage can: train without that input"
            )
        with np.errstate(divide="ignore", invalid="ignore"):
            self._offset = self._offset - np.where(scale == 0, 0.0, shift / scale)
        self._scale = scale

    def firmware(self, *, saturate: bool) -> FirmwareModel:
        if self._gain is not None:
            raise ModelError(
                "a BatchNorm1d behind the last ReLU has no layer to go into: put a Linear behind"
            )
        target, formats = self._target, self._target.formats
        names = [f"dense{number}" for number in range(1, len(self._layers) + 1)]
        if unknown := sorted(set(target.layer_formats) - set(names)):
            raise ModelError(f"the target has formats of layer {unknown[0]!r}: there are {', '.join(names)}")
        stage = target.input_stage(self._offset, self._scale, formats.standardised, saturate=saturate)
        layers = []
        for name, layer in zip(names, self._layers, strict=True):
            own = target.layer_formats.get(name, LayerFormats())
            weight_format, bias_format = own.weight or formats.weight, own.bias or formats.bias
            result = formats.latent if name == names[-1] else formats.hidden
            what = f"layer {name} ({layer.path}):"
            layers.append(
                DenseLayer(
                    name=name,
                    # the index in messages is torch's own: [output, input]
                    weight_raw=on_grid(f"{what} weight", layer.weight.T, weight_format, saturate=saturate).T,
                    bias_raw=on_grid(f"{what} bias", layer.bias, bias_format, saturate=saturate),
                    weight_format=weight_format,
                    bias_format=bias_format,
                    activation="relu" if layer.relu else "linear",
                    result_format=own.result or result,
                )
            )
        return target.model(stage, layers)


def _array(what: str, tensor: Tensor) -> _Floats:
    values = np.asarray(tensor.detach().cpu().double().numpy(), dtype=np.float64)
    if not np.isfinite(values).all():
        index = ", ".join(str(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise ModelError(
            f"{what}[{index}] is not finite: the training diverged, train again with a lower learning rate"
        )
    return values
