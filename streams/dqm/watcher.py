"""The watcher of a folder: finds DQM files as they land and has each counted once. Knows no broker.

Whoever starts it hands in a function that delivers summaries and conditions and returns only when the
broker has them. The folder is looked through again and again, because file systems over a network tell
nobody of new files. A file counts whole or not at all; one that cannot be counted is put on record with
the reason, and the watcher goes on.
"""

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from streams.conditions import STABLE_BEAMS, Conditions, encode_conditions
from streams.contracts.contract import Contract
from streams.counting.codec import encode_summary
from streams.counting.summary import Summary
from streams.dqm.files import SUFFIXES
from streams.dqm.journal import FileOutcome, FileRecord, Journal, Place, Signature
from streams.dqm.summary import read_summaries
from streams.errors import DqmFileError, ReplayError, StreamsError, WatchError

logger = logging.getLogger(__name__)

TEMPORARY: Final = (".tmp", ".part", ".partial", ".filepart", ".crdownload")
"""Endings that writers give to files that are not finished; names that begin with a dot are not either."""
RETRY_AFTER_S: Final = 5.0
ASK_AGAIN_S: Final = 60.0
"""When a file that the file system does not hand out is tried again."""
_BLOCK: Final = 4 * 1024 * 1024

Deliver = Callable[[Sequence[bytes], Sequence[bytes]], None]
"""Takes the messages of summaries, then those of conditions."""


@dataclass(frozen=True)
class WatchSettings:
    """What to watch, and what to say of it.

    Attributes
    ----------
    model
        Name of the monitored model.
    pileup
        Pileup of what lands. With it, the end of each lumisection is announced after its histograms, so
        that it can be judged at once; None: conditions come from elsewhere.
    beam_mode
        Goes with `pileup`.
    simulated
        Marks what does not come from collisions.
    settle_s
        A file is taken once it has not changed for so long.
    interval_s
        How often the folder is looked through.
    """

    model: str
    pileup: float | None = None
    beam_mode: str = STABLE_BEAMS
    simulated: bool = False
    settle_s: float = 2.0
    interval_s: float = 5.0


class FolderWatcher:
    """Takes each file of a folder and of the folders below it once.

    Parameters
    ----------
    folder
        Folder to watch.
    contract
        Lists histograms.
    settings
        See `WatchSettings`.
    journal
        Remembers what was taken, over restarts.
    deliver
        Returns once the broker has the summaries and then the conditions it is given; raises `ReplayError`
        where there is no broker.
    say
        Called with the record of each file that was dealt with.

    Raises
    ------
    WatchError
        The folder is missing or the contract lists no histograms.
    """

    def __init__(
        self,
        folder: Path,
        contract: Contract,
        settings: WatchSettings,
        journal: Journal,
        deliver: Deliver,
        say: Callable[[FileRecord], None] = lambda _: None,
    ) -> None:
        if not folder.is_dir():
            raise WatchError(f"{folder}: no such folder: make it, or name the one that files land in")
        if not contract.histograms:
            raise WatchError(f"contract '{contract.name}' lists no histograms: watch with one that does")
        self._folder = folder
        self._contract = contract
        self._settings = settings
        self._journal = journal
        self._deliver = deliver
        self._say = say
        self._done = journal.signatures()
        self._seen: dict[str, tuple[Signature, float]] = {}
        self._later: dict[str, float] = {}

    def run(self, stop: threading.Event) -> None:
        """Watch until `stop` is set. A broker that is away is asked again; nothing is lost meanwhile."""
        while not stop.is_set():
            try:
                self.look()
            except ReplayError as error:
                logger.warning("%s; trying again in %.0f s", error, RETRY_AFTER_S)
                stop.wait(RETRY_AFTER_S)
            stop.wait(self._settings.interval_s)

    def run_once(self, stop: threading.Event | None = None) -> list[FileRecord]:
        """Take what lies in the folder now, waiting only for files that still change.

        Raises
        ------
        ReplayError
            The broker cannot be reached.
        """
        stop = stop or threading.Event()
        records: list[FileRecord] = []
        while True:
            taken, waiting = self.look()
            records += taken
            if not waiting or stop.wait(min(self._settings.settle_s, self._settings.interval_s)):
                return records

    def look(self) -> tuple[list[FileRecord], int]:
        """Look through the folder once; returns what was dealt with and how many files still change."""
        records, waiting, present = [], 0, set()
        for path, signature in _files(self._folder):
            name = str(path)
            present.add(name)
            if self._done.get(name) == signature or self._later.get(name, 0.0) > time.monotonic():
                continue
            if not self._is_settled(name, signature):
                waiting += 1
                continue
            record = self._take(path, signature)
            if record is None:
                waiting += 1
                continue
            if name not in self._later:
                self._done[name] = signature
            records.append(record)
            self._say(record)
        self._seen = {name: seen for name, seen in self._seen.items() if name in present}
        return records, waiting

    def _is_settled(self, name: str, signature: Signature) -> bool:
        """Tell whether a file has not changed for a while, by its own time or since it was first seen so."""
        now = time.monotonic()
        if name not in self._seen or self._seen[name][0] != signature:
            self._seen[name] = (signature, now)
        if now - self._seen[name][1] >= self._settings.settle_s:
            return True
        return time.time() - signature.mtime_ns / 1e9 >= self._settings.settle_s

    def _take(self, path: Path, signature: Signature) -> FileRecord | None:
        """Deal with a file; None if it changed meanwhile."""
        self._later.pop(str(path), None)
        try:
            sha256 = sha256_of(path)
        except OSError as error:
            # not the file's fault: it is not put on record, and tried again
            self._later[str(path)] = time.monotonic() + ASK_AGAIN_S
            reason = f"{path}: cannot be read ({error.strerror}): check its rights and its file system"
            logger.warning("%s", reason)
            return _new_record(path, signature, "", FileOutcome.REFUSED, reason)
        before = self._journal.sent_as(sha256)
        if before is not None:
            return self._record(path, signature, sha256, FileOutcome.REPEATED, f"the same as {before}")
        try:
            summaries, repeated = self._new_summaries(path)
            messages = [encode_summary(summary) for summary in summaries]
        except StreamsError as error:
            if _signature(path) != signature:
                return None
            return self._refuse(path, signature, sha256, str(error))
        if _signature(path) != signature:
            return None
        if not summaries:
            reason = f"all {repeated} lumisections were sent before"
            return self._record(path, signature, sha256, FileOutcome.REPEATED, reason)
        self._deliver(messages, [encode_conditions(one) for one in self._conditions(summaries)])
        record = _new_record(path, signature, sha256, FileOutcome.SENT, lumisections=len(summaries))
        self._journal.add(record, [_place(summary) for summary in summaries])
        return record

    def _new_summaries(self, path: Path) -> tuple[list[Summary], int]:
        """Return what a file gives that was not sent before, and how many lumisections were."""
        settings = self._settings
        summaries = read_summaries(path, self._contract, model=settings.model, simulated=settings.simulated)
        new = []
        for summary in summaries:
            place = _place(summary)
            known = self._journal.known(place)
            if known is None:
                new.append(summary)
            elif known[0] != place.digest:
                raise DqmFileError(
                    f"{path}: run {place.run}, LS {place.lumisection} of '{place.source}' was counted from "
                    f"{known[1]} with other content: what is counted stays, watch for the last version only"
                )
        return new, len(summaries) - len(new)

    def _conditions(self, summaries: Sequence[Summary]) -> list[Conditions]:
        settings = self._settings
        if settings.pileup is None:
            return []
        sources: dict[tuple[int, int], dict[str, int]] = {}
        for summary in summaries:
            sources.setdefault((summary.run, summary.lumisection), {})[_place(summary).source] = 1
        return [
            Conditions(
                model=settings.model,
                run=run,
                lumisection=lumisection,
                pileup=settings.pileup,
                beam_mode=settings.beam_mode,
                simulated=settings.simulated,
                end_of_lumisection=True,
                expected=expected,
            )
            for (run, lumisection), expected in sorted(sources.items())
        ]

    def _refuse(self, path: Path, signature: Signature, sha256: str, reason: str) -> FileRecord:
        logger.warning("refused %s", reason)
        return self._record(path, signature, sha256, FileOutcome.REFUSED, reason)

    def _record(
        self, path: Path, signature: Signature, sha256: str, outcome: FileOutcome, reason: str
    ) -> FileRecord:
        record = _new_record(path, signature, sha256, outcome, reason)
        self._journal.add(record)
        return record


def _new_record(
    path: Path,
    signature: Signature,
    sha256: str,
    outcome: FileOutcome,
    reason: str = "",
    lumisections: int = 0,
) -> FileRecord:
    now = datetime.now(UTC).isoformat()
    return FileRecord(str(path), *signature, sha256, outcome, reason, lumisections, now)


def _place(summary: Summary) -> Place:
    if summary.batch is None:
        raise AssertionError("histograms are summarised with an identity")
    return Place(summary.run, summary.lumisection, summary.batch.source, summary.batch.digest)


def _files(folder: Path) -> Iterator[tuple[Path, Signature]]:
    """Finished files of the known formats, with their signatures, in the order of their names."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.startswith(".") or name.endswith(TEMPORARY) or not name.endswith(SUFFIXES):
                continue
            path = Path(parent, name)
            signature = _signature(path)
            if signature is not None:
                yield path, signature


def _signature(path: Path) -> Signature | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return Signature(found.st_size, found.st_mtime_ns)


def sha256_of(path: Path) -> str:
    """Return the sha256 (hex) of a file, read block by block."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
