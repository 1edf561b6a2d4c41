"""Small real hardware objects for tests of every room: models and inputs, and one signed package."""

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from hw.board import ProcessedEvents
from hw.fixed_point import FixedFormat, quantise
from hw.formats import DEFAULT_FORMATS, NetworkFormats
from hw.job import BuildSpec, build
from hw.network import DenseLayer, FirmwareModel, InputStage, ScoreStage
from hw.package import Package, open_package
from hw.signing import SigningKey, create_signing_key


def random_model(
    sizes=(6, 5, 4, 3),
    *,
    seed=1,
    name="anomaly",
    contract_hash="c0ffee",
    input_names=None,
    formats: NetworkFormats = DEFAULT_FORMATS,
    threshold=8.0,
) -> FirmwareModel:
    """Give a firmware model with plausible random parameters; `sizes` runs from inputs to latent values."""
    rng = np.random.default_rng(seed)
    layers = []
    for number, (n_in, n_out) in enumerate(pairwise(sizes), start=1):
        last = number == len(sizes) - 1
        layers.append(
            DenseLayer(
                name=f"dense{number}",
                weight_raw=quantise(rng.normal(0, 1.4 / np.sqrt(n_in), (n_in, n_out)), formats.weight),
                bias_raw=quantise(rng.normal(0, 0.2, n_out), formats.bias),
                weight_format=formats.weight,
                bias_format=formats.bias,
                activation="linear" if last else "relu",
                result_format=formats.latent if last else formats.hidden,
            )
        )
    return FirmwareModel(
        name=name,
        contract_hash=contract_hash,
        input_names=tuple(input_names or (f"object[{i}].pt" for i in range(sizes[0]))),
        input_stage=InputStage(
            quantise(rng.uniform(-20, 80, sizes[0]), formats.offset),
            quantise(rng.uniform(0.005, 0.05, sizes[0]), formats.scale),
            formats.scale,
            formats.standardised,
            formats.offset,
        ),
        layers=tuple(layers),
        score_stage=ScoreStage("sum_of_squares", formats.score, int(quantise(threshold, formats.score))),
    )


def logit_model(sizes=(8, 10, 6, 5), *, seed=4, output=2, name="jet_tagger") -> FirmwareModel:
    """Give a classifier: its score is one of the outputs of the last layer, which may be negative."""
    model = random_model(sizes, seed=seed, name=name)
    fmt = FixedFormat.parse("fixed<18,8,RND,SAT>")
    return replace(model, score_stage=ScoreStage("logit", fmt, int(quantise(0.5, fmt)), output))


def other_roundings_model(sizes=(9, 7, 4), *, seed=5, name="small") -> FirmwareModel:
    """Give an encoder whose stages round to even, truncate and wrap."""
    formats = replace(
        DEFAULT_FORMATS,
        standardised=FixedFormat.parse("fixed<14,6,RND_CONV,SAT>"),
        hidden=FixedFormat.parse("fixed<16,8>"),
        latent=FixedFormat.parse("fixed<14,7,RND_CONV,WRAP>"),
        score=FixedFormat.parse("ufixed<22,14,TRN,SAT>"),
    )
    return random_model(sizes, seed=seed, name=name, formats=formats)


def bench_models(*, small: bool) -> tuple[FirmwareModel, ...]:
    """Give the three models of the SIM-to-HW bench, as large as in a trigger or as small as they get."""
    if small:
        return random_model((10, 6, 4, 2), name="encoder"), logit_model(), other_roundings_model()
    return (
        random_model((57, 32, 16, 8), name="encoder", threshold=300.0),
        logit_model((16, 64, 32, 32, 5)),
        other_roundings_model((57, 16, 8, 3)),
    )


def random_inputs(n_events, n_inputs, *, seed=2, low=-200, high=400) -> np.ndarray:
    """Give plausible inputs, int16 (n_events, n_inputs)."""
    return np.random.default_rng(seed).integers(low, high, (n_events, n_inputs), dtype=np.int16)


def corner_inputs(n_inputs) -> np.ndarray:
    """Give the inputs on which wrong rounding or saturation shows first, int16 (n, n_inputs)."""
    extremes = np.array([-32768, -32767, -1, 0, 1, 32766, 32767], dtype=np.int16)
    same = np.repeat(extremes[:, None], n_inputs, axis=1)
    single = np.zeros((len(extremes) * n_inputs, n_inputs), dtype=np.int16)
    for index in range(n_inputs):
        single[index * len(extremes) : (index + 1) * len(extremes), index] = extremes
    mixed = np.random.default_rng(3).choice(extremes, (500, n_inputs)).astype(np.int16)
    return np.concatenate([same, single, mixed])


@dataclass(frozen=True)
class SignedPackages:
    """Real packages of one structure, and the key that signed them.

    `first` and `second` differ in weights only and share one compiled image; `other`, when `build_packages`
    is asked for it, has another structure.
    """

    folder: Path
    key: SigningKey
    key_path: Path
    trusted_path: Path
    first: Package
    second: Package
    other: Package | None

    @property
    def trusted(self):
        """The trusted keys, as functions take them."""
        return (self.key.trusted,)


def build_packages(folder: Path, sizes=(57, 32, 16, 8), *, other=False) -> SignedPackages:
    """Build signed, benched packages of random models in `folder`; takes some seconds per compiled image."""
    key_path, trusted_path = folder / "builder.key", folder / "builder.pub"
    key = create_signing_key(key_path)
    key.trusted.write(trusted_path)

    def package(name, model, **reuse) -> Package:
        model_path, out = folder / f"{name}.npz", folder / f"{name}.lwpkg"
        model_path.write_bytes(model.to_npz_bytes())
        spec = BuildSpec(
            model=model_path,
            out=out,
            signing_key=key_path,
            version=name,
            toolchain="hls4ml",  # the quickest to compile
            events=2000,
            trusted_keys=trusted_path,
            **reuse,
        )
        build(spec)
        return open_package(out, (key.trusted,))

    first = package("first", random_model(sizes, seed=1, threshold=300.0))
    second = package("second", random_model(sizes, seed=2, threshold=300.0), reuse=folder / "first.lwpkg")
    third = package("other", random_model((sizes[0], 4, 2), seed=3)) if other else None
    return SignedPackages(folder, key, key_path, trusted_path, first, second, third)


class FaultyBoard:
    """A fake fault around a real board: scores of one package come back with their last bit flipped."""

    def __init__(self, board, faulty_package_id) -> None:
        self._board = board
        self._faulty = faulty_package_id

    def __getattr__(self, name):
        return getattr(self._board, name)

    def process(self, inputs) -> ProcessedEvents:
        done = self._board.process(inputs)
        if done.package_id != self._faulty:
            return done
        return ProcessedEvents(done.scores ^ 1, done.accepts, done.package_id)
