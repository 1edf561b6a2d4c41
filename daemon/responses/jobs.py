"""Jobs of the rooms `retrain` and `hw`: a specification in, a result out, a child process in between.

Used by responses (`workbench`) and by first firmware (`references.commissioning`). Knows no job's meaning.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from sqlalchemy.engine import Engine

from daemon.errors import ChildFailed
from daemon.process.children import ProgressCallback, run_child
from daemon.site.keys import site_trusted_keys
from daemon.site.settings import Site
from daemon.store.database import transaction
from hw.archive import write_atomically
from hw.job import BuildResult
from hw.package import Package, open_package
from hw.records import record_package

RESULT_FILE = "result.json"
_Result = TypeVar("_Result", bound=BaseModel)


class _Failure(BaseModel):
    """What a job of any room leaves behind when it could not be done."""

    error: str
    kind: str


def run_job(
    module: str,
    spec: BaseModel,
    kind: type[_Result],
    folder: Path,
    *,
    timeout_s: float,
    progress: ProgressCallback,
    stopping: Event | None = None,
) -> _Result:
    """Run a job of another room, unless its result is there already.

    Parameters
    ----------
    module
        What the child runs, for example "hw.job".
    spec, kind
        The job, and the class of its result.
    folder
        Where specification, result and log are; made when missing.
    stopping
        Set when the daemon stops: the child is killed.

    Raises
    ------
    ChildFailed
        The job failed; its own reason where it left one.
    Interrupted
        The daemon stops.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spec_file, result_file = folder / "job.json", folder / RESULT_FILE
    known = _read(result_file, kind)
    if known is not None:
        return known
    result_file.unlink(missing_ok=True)
    write_atomically(spec_file, spec.model_dump_json(indent=1).encode())
    try:
        # a job that is killed cannot clear up its temporary files: they go with this folder
        with tempfile.TemporaryDirectory(prefix="work-", dir=folder) as temporary:
            run_child(
                [sys.executable, "-m", module, str(spec_file), str(result_file)],
                log=folder / "job.log",
                timeout_s=timeout_s,
                stopping=stopping or Event(),
                progress=progress,
                environment={"TMPDIR": temporary},
            )
    except ChildFailed:
        result = _read(result_file, kind)  # a job may say no with a full result
        if result is not None:
            return result
        failure = _read(result_file, _Failure)
        if failure is not None:
            raise ChildFailed(failure.error) from None
        raise
    result = _read(result_file, kind)
    if result is None:
        raise ChildFailed(f"{module} left no readable result in {result_file}; see job.log beside it")
    return result


def adopt_package(engine: Engine, site: Site, result: BuildResult, *, now: datetime) -> Package:
    """Put a built package under its id into the site's folder and records."""
    path = site.packages_dir / f"{result.package_id}.lwpkg"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        shutil.copyfile(result.package, temporary)
        temporary.replace(path)
    package = open_package(path, site_trusted_keys(site))
    with transaction(engine) as session:
        record_package(session, package, path, now=now)
    return package


def _read(file: Path, kind: type[_Result]) -> _Result | None:
    try:
        return kind.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None
