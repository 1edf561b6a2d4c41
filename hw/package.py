"""The package: one signed `.lwpkg` file that holds a firmware and everything needed to trust it.

A reproducible ZIP of `manifest.json` (with the sha256 of every other file), `manifest.sig` (Ed25519 over the
manifest's bytes), model, weight memory, golden vectors, bench report, firmware sources and one image per
partition; `docs/package-format.md` specifies it. Refuses to know toolchains and boards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from hw.archive import npy_array, npy_bytes, unzip_bytes, write_atomically, zip_bytes
from hw.errors import ModelError, PackageError, PackageMalformed, PackageTampered, SignatureUntrusted
from hw.manifest import (
    Lineage,
    Manifest,
    ToolchainStamp,
    image_path,
    partitions_of,
    segments_of,
)
from hw.models import Model, emulator_of, read_model
from hw.report import BenchReport
from hw.resources import Resources
from hw.signing import SIGNATURE_BYTES, SigningKey, TrustedKey

MAXIMUM_PACKAGE_BYTES = 64 << 20
"""Largest package, packed and unpacked."""

_MAXIMUM_FILES = 512
_MANIFEST, _SIGNATURE = "manifest.json", "manifest.sig"
_MODEL, _MEMORY, _BENCH = "model.npz", "memory.bin", "reports/bench.json"
_GOLDEN_INPUTS, _GOLDEN_SCORES = "golden/inputs.npy", "golden/scores.npy"
_ESSENTIAL = frozenset({_MODEL, _MEMORY, _GOLDEN_INPUTS, _GOLDEN_SCORES})
_SOURCES, _ARTEFACTS = "firmware/", "artefacts/"


@dataclass(frozen=True, eq=False)
class Package:
    """A package whose signature and files have been verified.

    Parameters
    ----------
    id
        sha256 hex of the manifest's bytes.
    manifest, model
        What it says and what it computes.
    golden_inputs
        int16, (n, n_inputs).
    golden_scores
        int64, (n,): what the firmware must answer.
    images
        The compiled image of every partition by its name. They stand where bitstreams stand on a real board.
    sources
        Firmware sources by path.
    artefacts
        What else a toolchain made, by path, e.g. bitstreams.
    signed_by
        Name of the trusted key.
    content
        The whole file, as it is streamed to a board.
    path
        Where it was read from or written to, if anywhere.
    """

    id: str
    manifest: Manifest
    model: Model
    golden_inputs: npt.NDArray[np.int16] = field(repr=False)
    golden_scores: npt.NDArray[np.int64] = field(repr=False)
    images: Mapping[str, bytes] = field(repr=False)
    sources: Mapping[str, bytes] = field(repr=False)
    artefacts: Mapping[str, bytes] = field(repr=False)
    signed_by: str
    content: bytes = field(repr=False)
    path: Path | None = None

    @property
    def short_id(self) -> str:
        """First 12 digits of the id, for people."""
        return self.id[:12]


def write_package(
    path: Path,
    *,
    model: Model,
    images: Mapping[str, bytes],
    golden_inputs: npt.NDArray[np.int16],
    bench: BenchReport | None,
    toolchain: ToolchainStamp,
    version: str,
    key: SigningKey,
    lineage: Lineage | None = None,
    sources: Mapping[str, bytes] | None = None,
    artefacts: Mapping[str, bytes] | None = None,
    resources: Sequence[Resources] = (),
    created: datetime | None = None,
) -> Package:
    """Write and sign a package; the golden scores come from the emulator.

    Parameters
    ----------
    path
        The file to write, atomically; its folder must exist.
    images
        The compiled image of every partition, by its name.
    golden_inputs
        int16, (n, n_inputs): the events a board is checked with after loading.
    version
        Version of the monitored model, free text.
    created
        Left out, equal inputs give equal bytes.

    Returns
    -------
    Package
        As `open_package` would read it.

    Raises
    ------
    PackageError
        When the file cannot be written or would exceed `MAXIMUM_PACKAGE_BYTES`.
    """
    files = {
        _MODEL: model.to_npz_bytes(),
        _MEMORY: model.memory().astype("<i4").tobytes(),
        _GOLDEN_INPUTS: npy_bytes(golden_inputs),
        _GOLDEN_SCORES: npy_bytes(emulator_of(model).scores(golden_inputs)),
        **{image_path(p.name): images[p.name] for p in model.partitions()},
        **{_SOURCES + name: content for name, content in (sources or {}).items()},
        **{_ARTEFACTS + name: content for name, content in (artefacts or {}).items()},
    }
    if bench is not None:
        files[_BENCH] = bench.model_dump_json(indent=1).encode()
    manifest = Manifest(
        name=model.name,
        version=version,
        toolchain=toolchain,
        part=model.layout.part,
        shell_hash=model.shell_hash,
        structure_hash=model.structure_hash,
        weights_hash=model.weights_hash,
        contract_hash=model.contract_hash,
        input_names=model.input_names,
        precision=model.precision(),
        segments=segments_of(model),
        constants=model.layout.constants,
        partitions=partitions_of(model),
        golden_count=len(golden_inputs),
        bench=bench,
        resources=tuple(resources),
        lineage=lineage or Lineage(),
        rollback_to=None if lineage is None else lineage.parent_package,
        created=created,
        files={name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    )
    signed = json.dumps(manifest.model_dump(mode="json"), sort_keys=True, indent=1).encode()
    content = zip_bytes({**files, _MANIFEST: signed, _SIGNATURE: key.sign(signed)})
    package = read_package(content, (key.trusted,), what=str(path), path=path)
    try:
        write_atomically(path, content)
    except OSError as error:
        raise PackageError(f"{path} cannot be written ({error.strerror}): check the folder") from error
    return package


def open_package(path: Path, trusted_keys: Sequence[TrustedKey]) -> Package:
    """Read a package from a file and verify all of it.

    Parameters
    ----------
    path
        The `.lwpkg` file.
    trusted_keys
        Whose signatures count.

    Raises
    ------
    PackageError
        When the file cannot be read.
    PackageMalformed, PackageTampered, SignatureUntrusted
        When it is not a whole, unchanged package signed by a trusted key.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAXIMUM_PACKAGE_BYTES + 1)
    except OSError as error:
        raise PackageError(f"package {path} cannot be read ({error.strerror}): check the path") from error
    return read_package(content, trusted_keys, what=f"package {path}", path=path)


def read_package(
    content: bytes, trusted_keys: Sequence[TrustedKey], *, what: str = "the package", path: Path | None = None
) -> Package:
    """Read a package from memory and verify all of it; raises as `open_package` does.

    Parameters
    ----------
    content
        The bytes of the `.lwpkg` file.
    what
        Name of the package for error messages.
    """
    manifest_bytes, signature, files = _unpack(content, what)
    signer = _signer(manifest_bytes, signature, trusted_keys, what)
    manifest = _manifest(manifest_bytes, what)
    if missing := sorted(set(manifest.files) - set(files)):
        raise PackageMalformed(f"{what} lacks {', '.join(missing[:3])}: get it again from its source")
    return _package(manifest_bytes, manifest, files, signer, content, what, path)


def image_sizes(package: Package) -> dict[str, int]:
    """Give the bytes of every partition's image, by its name."""
    return {name: len(content) for name, content in package.images.items()}


def board_content(package: Package, partitions: Collection[str] | None = None) -> bytes:
    """Give what a board needs of a package: no sources and reports, and the images of some partitions only.

    Parameters
    ----------
    partitions
        Names of the partitions whose images go along; left out, all. The board takes the others from what it
        runs, and only when their hashes are those of the signed manifest.
    """
    manifest_bytes, signature, files = _unpack(package.content, f"package {package.short_id}")
    names = {p.name for p in package.manifest.partitions} if partitions is None else set(partitions)
    kept = {n: c for n, c in files.items() if n in _ESSENTIAL or n in map(image_path, names)}
    return zip_bytes({**kept, _MANIFEST: manifest_bytes, _SIGNATURE: signature})


def read_board_content(
    content: bytes, trusted_keys: Sequence[TrustedKey], *, installed: Package | None = None
) -> Package:
    """Read what `board_content` gave, or a whole package, and verify all that a board will use.

    Parameters
    ----------
    installed
        The package a board runs: images that the content lacks are taken from it when their sha256 is the one
        in the signed manifest.

    Returns
    -------
    Package
        Its `content` holds all images, whatever was sent.

    Raises
    ------
    PackageMalformed, PackageTampered, SignatureUntrusted
        When it is not a package signed by a trusted key, or lacks something.
    """
    what = "the package"
    manifest_bytes, signature, files = _unpack(content, what)
    signer = _signer(manifest_bytes, signature, trusted_keys, what)
    manifest = _manifest(manifest_bytes, what)
    for name, image in ({} if installed is None else installed.images).items():
        expected = manifest.files.get(image_path(name))
        if image_path(name) not in files and hashlib.sha256(image).hexdigest() == expected:
            files[image_path(name)] = image
    whole = zip_bytes({**files, _MANIFEST: manifest_bytes, _SIGNATURE: signature})
    return _package(manifest_bytes, manifest, files, signer, whole, what, None)


def _unpack(content: bytes, what: str) -> tuple[bytes, bytes, dict[str, bytes]]:
    if len(content) > MAXIMUM_PACKAGE_BYTES:
        raise PackageMalformed(
            f"{what} is larger than {MAXIMUM_PACKAGE_BYTES} bytes: it is no package of ours"
        )
    files = unzip_bytes(content, maximum_bytes=MAXIMUM_PACKAGE_BYTES, maximum_files=_MAXIMUM_FILES, what=what)
    manifest_bytes, signature = files.pop(_MANIFEST, None), files.pop(_SIGNATURE, None)
    if manifest_bytes is None or signature is None:
        raise PackageMalformed(f"{what} has no manifest or no signature: build it again with lumiwatch")
    return manifest_bytes, signature, files


def _package(
    manifest_bytes: bytes,
    manifest: Manifest,
    files: Mapping[str, bytes],
    signer: str,
    content: bytes,
    what: str,
    path: Path | None,
) -> Package:
    _check_files(manifest, files, what)
    try:
        model = read_model(files[_MODEL])
        golden_inputs = npy_array(files[_GOLDEN_INPUTS], f"{what}: {_GOLDEN_INPUTS}")
        golden_scores = npy_array(files[_GOLDEN_SCORES], f"{what}: {_GOLDEN_SCORES}")
        images = {p.name: files[image_path(p.name)] for p in model.partitions()}
        memory = files[_MEMORY]
    except KeyError as error:
        raise PackageMalformed(f"{what} lacks {error.args[0]}: build it again") from error
    except ModelError as error:
        raise PackageMalformed(f"{what}: {error}") from error
    _check_consistency(manifest, model, memory, what)
    return Package(
        id=hashlib.sha256(manifest_bytes).hexdigest(),
        manifest=manifest,
        model=model,
        golden_inputs=_golden(golden_inputs, (manifest.golden_count, model.n_inputs), what).astype(np.int16),
        golden_scores=_golden(golden_scores, (manifest.golden_count,), what).astype(np.int64),
        images=images,
        sources=_below(files, _SOURCES),
        artefacts=_below(files, _ARTEFACTS),
        signed_by=signer,
        content=content,
        path=path,
    )


def _below(files: Mapping[str, bytes], prefix: str) -> dict[str, bytes]:
    return {name.removeprefix(prefix): content for name, content in files.items() if name.startswith(prefix)}


def _signer(manifest: bytes, signature: bytes, trusted_keys: Sequence[TrustedKey], what: str) -> str:
    if len(signature) == SIGNATURE_BYTES:
        for key in trusted_keys:
            if key.verifies(signature, manifest):
                return key.name
    names = ", ".join(key.name for key in trusted_keys) or "none"
    raise SignatureUntrusted(
        f"{what} is not signed by a trusted key (trusted: {names}): add the builder's .pub file or reject it"
    )


def _manifest(content: bytes, what: str) -> Manifest:
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PackageMalformed(
            f"{what}: manifest {where}: {first['msg']}: build it with this version"
        ) from error


def _check_files(manifest: Manifest, files: Mapping[str, bytes], what: str) -> None:
    if extra := sorted(set(files) - set(manifest.files)):
        raise PackageTampered(f"{what} holds files nobody signed ({', '.join(extra[:3])}): do not use it")
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != manifest.files[name]:
            raise PackageTampered(
                f"{what}: {name} is not the file that was signed: get it again from its source"
            )


def _check_consistency(manifest: Manifest, model: Model, memory: bytes, what: str) -> None:
    same = (
        model.structure_hash == manifest.structure_hash
        and model.shell_hash == manifest.shell_hash
        and model.weights_hash == manifest.weights_hash
        and model.contract_hash == manifest.contract_hash
        and model.name == manifest.name
        and model.input_names == manifest.input_names
        and model.layout.constants == manifest.constants
        and model.layout.part == manifest.part
        and segments_of(model) == manifest.segments
        and partitions_of(model) == manifest.partitions
        and memory == model.memory().astype("<i4").tobytes()
    )
    if not same:
        raise PackageMalformed(f"{what}: manifest, model and memory contradict each other: build it again")


def _golden(array: npt.NDArray[np.generic], shape: tuple[int, ...], what: str) -> npt.NDArray[np.generic]:
    expected = np.int16 if len(shape) == 2 else np.int64
    if array.dtype != expected or array.shape != shape or not shape[0]:
        raise PackageMalformed(f"{what}: golden vectors are {array.dtype} {array.shape}: build it again")
    return array
