"""The demo's folder, its input, and the detector it pretends to have: a replay through the board.

Knows no incident and no response; a real experiment would bring its own detector.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Self

from skhep_testdata import data_path

from daemon.client import is_running
from daemon.errors import DemoFolderInUse, DemoFolderUnusable, ProcessFailed
from daemon.process.console_address import bind
from daemon.references.commissioning import check_toolchain
from daemon.responses.through_board import score_on
from daemon.site.settings import SITE_FILE, load_site
from hw.boards.ipbus import IPbusBoard
from hw.errors import HardwareError
from streams.contracts.contract import Contract
from streams.effects.effect import Effect
from streams.errors import EffectError, StreamsError
from streams.events.dataset import Dataset
from streams.events.replay import Replayer, ReplaySettings

ROOT_FILE = "uproot-HZZ.root"
RUN = 400_001
_MARKER = ".lumiwatch-demo"
_FOREVER = 1_000_000
_STOP_TIMEOUT_S = 60.0


def root_file() -> Path:
    """Give the demo's input: 2421 simulated H -> ZZ events that scikit-hep-testdata carries."""
    return Path(data_path(ROOT_FILE, raise_missing=True))


def example_site() -> Path:
    """Find the complete example site: in the source tree, or where the distribution installed it."""
    packaged = Path(str(resources.files("daemon"))) / "example_site"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "deploy" / "site"


def prepare_folder(folder: Path) -> Path:
    """Make an empty demo folder with a copy of the example site in it; returns the site's folder.

    Raises
    ------
    DemoFolderInUse
        The folder holds something that is no earlier demo, or a demo that still runs.
    DemoFolderUnusable
        It cannot be made or written.
    """
    site = folder / "site"
    try:
        _check_free(folder, site)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _MARKER).write_text("`lumiwatch demo` made this folder and empties it at its next start.\n")
        shutil.copytree(example_site(), site)
    except OSError as error:
        cause = error.strerror or "see its rights and its disk"
        raise DemoFolderUnusable(f"{folder} cannot be made ({cause}): name another with --folder") from error
    return site


def _check_free(folder: Path, site: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise DemoFolderUnusable(f"{folder} is a file: name a folder with --folder")
    if not (folder / _MARKER).exists() and any(folder.iterdir()):
        raise DemoFolderInUse(
            f"{folder} is not empty and was not made by `lumiwatch demo`: name another with --folder"
        )
    if (site / SITE_FILE).exists() and is_running(load_site(site)):
        raise DemoFolderInUse(f"{folder} holds a demo that still runs: end it, or name another with --folder")


def check_machine(model: str, effect: Effect | None, port: int) -> None:
    """Find out whether a demo can be played here, before anything is made or started.

    Parameters
    ----------
    model
        Monitored model of the example site.
    port
        Of the console; 0 takes a free one.

    Raises
    ------
    EffectError
        The effect cannot act on this model's inputs, or leaves no lumisection to be in control.
    ToolchainError
        No firmware can be built on this machine.
    PortInUse
        Another process has the console's port.
    """
    site = load_site(example_site(), overrides={"console": {"port": port}})
    if effect is not None:
        effect.check(site.models[model].contract)
        if effect.first_lumisection < 2:
            raise EffectError(
                f"effect '{effect}': the demo needs good lumisections first: add for example @LS61"
            )
    check_toolchain(site.models[model])
    bind(site).close()


@dataclass(frozen=True)
class Detector:
    """Replays the dataset through the board, lumisection by lumisection.

    Attributes
    ----------
    bootstrap
        The broker.
    board_address
        Where the board answers.
    events_per_lumisection
        How many events each lumisection has.
    effect
        What goes wrong, and from which lumisection on; None: nothing.
    seed
        Decides which events are drawn.
    """

    model: str
    contract: Contract
    dataset: Dataset
    bootstrap: str
    board_address: str
    events_per_lumisection: int
    effect: Effect | None
    seed: int

    def take(self, first: int, last: int, progress: Callable[[int], None]) -> None:
        """Take lumisections `first` to `last` as fast as board and broker allow. Raises `StreamsError`."""
        self._replayer(first, last, 0.0).run(progress=progress)

    def running(self, first: int, seconds_per_lumisection: float) -> RunInProgress:
        """Take lumisections from `first` on at a steady pace, until the context is left."""
        return RunInProgress(self._replayer(first, _FOREVER, seconds_per_lumisection))

    def _replayer(self, first: int, last: int, pace_s: float) -> Replayer:
        settings = ReplaySettings(
            model=self.model,
            run=RUN,
            first=first,
            last=last,
            events_per_lumisection=self.events_per_lumisection,
            effects=() if self.effect is None else (self.effect,),
            seed=self.seed,
            seconds_per_lumisection=pace_s,
        )
        score = score_on(IPbusBoard(self.board_address))
        return Replayer(self.bootstrap, self.dataset, self.contract, settings, score)


class RunInProgress:
    """A replay in a thread; `check` says whether it still runs."""

    def __init__(self, replayer: Replayer) -> None:
        self._replayer = replayer
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="detector", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_STOP_TIMEOUT_S)

    def check(self) -> None:
        """Raise ProcessFailed if the replay has ended by itself."""
        if self._error is not None:
            raise ProcessFailed(f"the replay ended: {self._error}") from self._error

    def _run(self) -> None:
        try:
            self._replayer.run(self._stop)
        except (StreamsError, HardwareError) as error:
            self._error = error
