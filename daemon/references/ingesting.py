"""Firmware of a model that was trained elsewhere: a QONNX file becomes a signed package of a site.

Its lineage ends at the file, by its SHA-256. Knows no incident, no board and no training of our own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy.engine import Engine

from daemon.journal.lineage import Artefact, add_edge
from daemon.operations import utc_now
from daemon.process.children import ProgressCallback
from daemon.references.commissioning import check_toolchain, load_dataset
from daemon.responses.jobs import adopt_package, run_job
from daemon.site.keys import ensure_keys
from daemon.site.settings import Site, SiteModel
from daemon.site.state_dir import prepare_state_dir
from daemon.store.database import open_database, transaction
from hw.archive import write_atomically
from hw.errors import ModelError
from hw.ingest.qonnx_model import from_qonnx
from hw.ingest.target import IngestTarget
from hw.job import BuildResult, BuildSpec
from hw.manifest import Lineage
from hw.package import Package


@dataclass(frozen=True)
class Ingested:
    """A package of a model that was trained elsewhere.

    Attributes
    ----------
    file_sha256
        Of the file it was made from.
    path
        Where the site keeps the package.
    """

    package: Package
    result: BuildResult
    file_sha256: str
    path: Path


def read_scaling(file: Path) -> tuple[Any, Any]:
    """Read `{"offset": ..., "scale": ...}`, each a number or one per input; raises ModelError."""
    try:
        content = json.loads(file.read_bytes())
        return content["offset"], content["scale"]
    except OSError as error:
        raise ModelError(f"{file}: cannot be read ({error.strerror}): check the path") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f'{file}: write {{"offset": ..., "scale": ...}} as JSON ({error})') from error


def ingest(
    site: Site,
    model: SiteModel,
    file: Path,
    target: Callable[[str, str, Sequence[str]], IngestTarget],
    bench_events: Path | None,
    progress: ProgressCallback,
    *,
    engine: Engine | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> Ingested:
    """Build, bench and sign the package of a QONNX file, with the toolchain of the site's model.

    Parameters
    ----------
    target
        Gives the rest from the model's name, contract hash and input names.
    bench_events
        Dataset whose events become golden vectors; random ones are added.

    Raises
    ------
    ModelError
        The file is no network that firmware can compute bit by bit.
    ToolchainError, DatasetError
        The toolchain lacks something on this machine; the events are of another contract.
    ChildFailed
        The toolchain failed, or firmware and emulator differ.
    """
    prepare_state_dir(site)
    check_toolchain(model)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file}: cannot be read ({error.strerror}): check the path") from error
    contract = model.contract
    firmware = from_qonnx(content, target(model.name, contract.hash, contract.input_names))
    recorded = None if bench_events is None else load_dataset(bench_events, contract)
    ensure_keys(site)
    sha256 = hashlib.sha256(content).hexdigest()
    folder = site.state_dir / "jobs" / f"{clock():%Y%m%dT%H%M%S.%f}-ingest-{model.name}"
    folder.mkdir(parents=True)
    write_atomically(folder / "model.npz", firmware.to_npz_bytes())
    if recorded is not None:
        np.save(folder / "events.npy", recorded.inputs)
    spec = BuildSpec(
        model=folder / "model.npz",
        out=folder / "new.lwpkg",
        signing_key=site.signing_key_file,
        trusted_keys=site.trusted_keys_dir,
        version="1",
        toolchain=model.settings.firmware.toolchain,
        inputs=None if recorded is None else folder / "events.npy",
        lineage=Lineage(training=f"ingested from {sha256}"),
        created=clock(),
    )
    timeout_s = model.settings.firmware.build_timeout_s
    result = run_job("hw.job", spec, BuildResult, folder, timeout_s=timeout_s, progress=progress)
    engine = engine or open_database(site.database_url)
    now = clock()
    package = adopt_package(engine, site, result, now=now)
    with transaction(engine) as session:
        child, parent = Artefact("package", package.id), Artefact("model_file", sha256)
        add_edge(session, child, parent, "ingested from", now=now)
    return Ingested(package, result, sha256, site.packages_dir / f"{package.id}.lwpkg")
