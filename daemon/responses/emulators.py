"""The emulators of a site's firmware packages, for the stream's integrity check.

Finds a package by its identity, checks its signature, and keeps its emulator. All of that happens in a thread
of its own: until it is done, the stream is told that the package cannot be checked yet, and goes on.
Knows no Kafka and no windows.
"""

from __future__ import annotations

import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Final

import numpy as np
import numpy.typing as npt
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from daemon.errors import DaemonError
from daemon.responses.board_work import package_path
from daemon.site.keys import site_trusted_keys
from daemon.site.settings import Site
from hw.errors import HardwareError
from hw.models import AnyEmulator, emulator_of
from hw.package import open_package
from streams.integrity import EmulatedOutput

logger = logging.getLogger(__name__)

KEPT: Final = 16
"""Packages remembered, usable or not: identities come from the wire, and anyone can make up more."""
LOOK_AGAIN_S: Final = 60.0
"""A package that could not be used may have been put into place since."""

_PACKAGE_ID: Final = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class _Entry:
    """A package: its emulator, or since when it cannot be used; neither while it is loaded."""

    emulator: AnyEmulator | None = None
    failed_s: float | None = None


class SiteEmulators:
    """Emulators of the packages that a site has and trusts; see `streams.integrity.Emulators`.

    Parameters
    ----------
    site
        Where packages and trusted keys are.
    engine
        The site's database: it knows of packages that lie elsewhere.
    clock
        Monotonic seconds.
    """

    def __init__(self, site: Site, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._site = site
        self._engine = engine
        self._clock = clock
        self._known: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = Lock()
        self._loader = ThreadPoolExecutor(1, "lumiwatch-emulators")

    def outputs(self, package: str, inputs: npt.NDArray[np.int16]) -> EmulatedOutput | None:
        """Answer as the package must; None while it is loaded, and for one that the site does not trust."""
        emulator = self._emulator(package)
        if emulator is None or inputs.shape[1] != emulator.model.n_inputs:
            return None
        scores = emulator.scores(inputs)
        return EmulatedOutput(scores, scores > emulator.model.threshold_raw)

    def wait_loaded(self) -> None:
        """Wait until everything that was asked for so far is loaded, or found unusable."""
        self._loader.submit(lambda: None).result()

    def _emulator(self, package: str) -> AnyEmulator | None:
        with self._lock:
            entry = self._known.get(package)
            if entry is not None:
                self._known.move_to_end(package)
            if entry is None or self._due(entry):
                self._remember(package, _Entry())
                self._loader.submit(self._load, package)
                return None
            return entry.emulator

    def _due(self, entry: _Entry) -> bool:
        return entry.failed_s is not None and self._clock() - entry.failed_s > LOOK_AGAIN_S

    def _load(self, package: str) -> None:
        try:
            entry = _Entry(emulator=self._open(package))
        except (DaemonError, HardwareError, SQLAlchemyError, OSError) as error:
            logger.warning("events of package %.12s are not checked against its emulator: %s", package, error)
            entry = _Entry(failed_s=self._clock())
        except Exception:
            logger.exception("package %.12s breaks the loader: its events are not checked", package)
            entry = _Entry(failed_s=self._clock())
        with self._lock:
            self._remember(package, entry)

    def _open(self, package: str) -> AnyEmulator:
        if not _PACKAGE_ID.match(package):  # it becomes a file's name
            raise DaemonError("its identity is no sha256: the source must send the package's own")
        found = open_package(package_path(self._engine, self._site, package), site_trusted_keys(self._site))
        if found.id != package:
            raise DaemonError(f"the file holds package {found.short_id}: put the right one into its place")
        return emulator_of(found.model)

    def _remember(self, package: str, entry: _Entry) -> None:
        self._known[package] = entry
        self._known.move_to_end(package)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
