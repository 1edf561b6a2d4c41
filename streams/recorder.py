"""The recorder: keeps a bounded, prescaled sample of recent raw events on disk, for retraining.

One dataset file per batch, named after what it holds, so that a redelivered batch writes the same file
again. The oldest files go when a model's share of the disk is used up. Knows no broker and no drift.
"""

import hashlib
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from streams.batch import Batch
from streams.contract import Contract
from streams.dataset import Dataset, concatenate, dataset_of
from streams.errors import RecorderError

DEFAULT_PRESCALE: Final = 5
DEFAULT_MAX_BYTES: Final = 512 * 1024 * 1024
DEFAULT_MAX_FILES: Final = 20_000
_FILE: Final = re.compile(
    r"^(?P<run>\d{10})-(?P<lumisection>\d{10})-(?P<package>[0-9a-f]{16})-[0-9a-f]{16}-\d{16}\.npz$"
)


@dataclass(frozen=True)
class RecorderSettings:
    """How much is kept.

    Attributes
    ----------
    folder
        One folder per model is made in it.
    prescale
        Every n-th event is kept.
    max_bytes, max_files
        Bounds for each model.
    """

    folder: Path
    prescale: int = DEFAULT_PRESCALE
    max_bytes: int = DEFAULT_MAX_BYTES
    max_files: int = DEFAULT_MAX_FILES


@dataclass(frozen=True)
class _Kept:
    path: Path
    size: int


class Recorder:
    """Writes recent events. One process writes each model's folder at a time."""

    def __init__(self, settings: RecorderSettings) -> None:
        if settings.prescale < 1:
            raise RecorderError(f"recorder prescale {settings.prescale}: give 1 or more")
        self._settings = settings
        self._kept: dict[str, deque[_Kept]] = {}
        self._bytes: dict[str, int] = {}

    def record(self, batch: Batch, contract: Contract) -> Path | None:
        """Keep every n-th event of a batch.

        Returns
        -------
        Path or None
            The file written; None if the prescale leaves no event.

        Raises
        ------
        RecorderError
            The folder cannot be written.
        """
        prescale = self._settings.prescale
        chosen = slice(batch.sequence % prescale, None, prescale)
        inputs = np.ascontiguousarray(batch.inputs[chosen])
        if not len(inputs):
            return None
        dataset = dataset_of(
            contract,
            inputs,
            made_by=f"recorder prescale={prescale} source={batch.source} package={batch.package}",
            run=np.full(len(inputs), batch.run, dtype=np.int64),
            lumisection=np.full(len(inputs), batch.lumisection, dtype=np.int64),
            score=np.ascontiguousarray(batch.score[chosen]),
            accept=np.ascontiguousarray(batch.accept[chosen]),
        )
        path = model_folder(self._settings.folder, batch.model) / _file_name(batch)
        try:
            self._open(batch.model)
            replaced = path.stat().st_size if path.exists() else None
            dataset.save(path)
            if replaced is None:
                self._remember(batch.model, _Kept(path, path.stat().st_size))
            self._drop_oldest(batch.model)
        except OSError as error:
            raise RecorderError(
                f"{path.parent} cannot be written ({error.strerror}): mend the folder"
            ) from error
        return path

    def _open(self, model: str) -> None:
        if model in self._kept:
            return
        folder = model_folder(self._settings.folder, model)
        folder.mkdir(parents=True, exist_ok=True)
        self._kept[model], self._bytes[model] = deque(), 0
        found = [(path.stat(), path) for path in folder.iterdir() if _FILE.match(path.name)]
        for status, path in sorted(found, key=lambda entry: (entry[0].st_mtime_ns, entry[1].name)):
            self._remember(model, _Kept(path, status.st_size))

    def _remember(self, model: str, kept: _Kept) -> None:
        self._kept[model].append(kept)
        self._bytes[model] += kept.size

    def _drop_oldest(self, model: str) -> None:
        kept = self._kept[model]
        while len(kept) > 1 and (
            self._bytes[model] > self._settings.max_bytes or len(kept) > self._settings.max_files
        ):
            oldest = kept.popleft()
            self._bytes[model] -= oldest.size
            oldest.path.unlink(missing_ok=True)


def recent_dataset(
    folder: Path,
    model: str,
    *,
    first_lumisection: int,
    last_lumisection: int,
    run: int | None = None,
    package: str | None = None,
    max_events: int | None = None,
) -> Dataset:
    """Return the recorded events of a range of lumisections as one dataset, in their order.

    Parameters
    ----------
    folder
        The recorder's folder.
    first_lumisection, last_lumisection
        Both included.
    run, package
        Only of this run, scored by this package; None for all.
    max_events
        Stop after the file that reaches this number.

    Raises
    ------
    RecorderError
        Nothing was recorded there.
    """
    parts: list[Dataset] = []
    events = 0
    for found in _files(folder, model, lambda ls: first_lumisection <= ls <= last_lumisection):
        if run is not None and int(found["run"]) != run:
            continue
        if package is not None and found["package"] != _digest(package):
            continue
        parts.append(Dataset.load(model_folder(folder, model) / found.string))
        events += parts[-1].n_events
        if max_events is not None and events >= max_events:
            break
    if not parts:
        of_package = f" of package {package[:12]}" if package is not None else ""
        raise RecorderError(
            f"no events of {model} recorded in LS {first_lumisection} to {last_lumisection}{of_package}: "
            "wait for data, or choose another range"
        )
    if len(parts) == 1:
        return parts[0]
    return concatenate(parts, made_by=f"recent LS {first_lumisection}-{last_lumisection} of {model}")


def model_folder(folder: Path, model: str) -> Path:
    """Return where a model's events are kept: its name, or a digest where the name cannot be a folder's."""
    return folder / (model if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", model) else _digest(model))


def _files(folder: Path, model: str, wanted: Callable[[int], bool]) -> list[re.Match[str]]:
    place = model_folder(folder, model)
    names = sorted(path.name for path in place.iterdir()) if place.is_dir() else []
    found = [match for name in names if (match := _FILE.match(name)) is not None]
    return [match for match in found if wanted(int(match["lumisection"]))]


def _file_name(batch: Batch) -> str:
    # package and source are free text from the wire: only their digests may become part of a path
    place = f"{batch.run:010d}-{batch.lumisection:010d}-{_digest(batch.package)}"
    return f"{place}-{_digest(batch.source)}-{batch.sequence:016d}.npz"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
