"""The worker process: reads its settings, runs the topology, and exits when that fails.

Its supervisor starts it again; every kill is safe, because whatever was not committed is delivered
again and whatever was counted is not counted twice. ``python -m streams.worker SETTINGS`` runs one.
"""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Final

import faust

from streams.broker.embedded import die_with_parent
from streams.errors import StreamsError
from streams.events.dataset import write_atomically
from streams.integrity import Emulators
from streams.pipeline import end_process
from streams.topology import INPUTS, build_app, own_partitions
from streams.watchdog import GroupReach, Watchdog
from streams.worker_settings import WorkerModel, WorkerSettings, load_settings
from streams.worker_status import Progress

__all__ = ["WorkerModel", "WorkerSettings", "load_settings", "main", "run_worker", "start_worker"]

logger = logging.getLogger(__name__)

EXIT_SETTINGS: Final = 2
EXIT_INTERRUPTED: Final = 130
LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def run_worker(settings: WorkerSettings, emulators: Emulators | None = None) -> None:
    """Run a worker in this process until a signal. Ends in `SystemExit`: 0 after SIGTERM, 130 after SIGINT.

    Parameters
    ----------
    emulators
        Of the firmware packages, for the integrity check; None: events are not checked.

    Raises
    ------
    StreamsError
        The settings cannot be used, or the broker or the database cannot be reached.
    """
    logging.basicConfig(level=settings.log_level.upper(), format=LOG_FORMAT, stream=sys.stderr)
    for engine in ("faust", "mode", "aiokafka", "streams.engine_transport"):
        logging.getLogger(engine).setLevel(logging.WARNING)
    # used only to look at the broker and its topics: what went wrong there is said by `BrokerError`
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    progress = Progress()
    app = build_app(settings, progress, emulators)
    _watchdog(app, settings, progress).start()
    logger.info("worker of group %s starts on %s", settings.group, settings.bootstrap)
    worker = _Worker(
        app,
        override_logging=False,
        redirect_stdouts=False,
        quiet=True,
        workdir=str(settings.state_dir),
    )
    try:
        worker.execute_from_commandline()
    except SystemExit as end:
        if worker.interrupted and not end.code:
            raise SystemExit(EXIT_INTERRUPTED) from None
        raise


def _watchdog(app: faust.App, settings: WorkerSettings, progress: Progress) -> Watchdog:
    reaches = GroupReach(settings.bootstrap, settings.security, settings.group, INPUTS)
    return Watchdog(
        reaches, lambda: own_partitions(app), progress.reached, settings.standstill_s, end_process
    )


class _Worker(faust.Worker):  # type: ignore[misc] # the engine has no types
    """The engine's worker, which remembers that it was Ctrl-C that ended it."""

    interrupted = False

    def _on_sigint(self) -> None:
        self.interrupted = True
        super()._on_sigint()


def start_worker(settings: WorkerSettings, *, log: Path) -> "subprocess.Popen[bytes]":
    """Start a worker as a child process that dies with this one.

    Parameters
    ----------
    settings
        Written to ``worker.json`` in its state folder.
    log
        File that its output is appended to.
    """
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    file = settings.state_dir / "worker.json"
    write_atomically(file, settings.model_dump_json(indent=2).encode())
    # the database URL may hold a password
    file.chmod(0o600)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "streams.worker", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent(),  # noqa: PLW1509 - it calls prctl and takes no lock
        )


def main(arguments: list[str] | None = None) -> int:
    """Run the worker whose settings file is named on the command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m streams.worker SETTINGS.json\n")
        return EXIT_SETTINGS
    try:
        run_worker(load_settings(Path(arguments[0])))
    except StreamsError as error:
        logger.debug("cannot start", exc_info=True)
        sys.stderr.write(f"{error}\n")
        return EXIT_SETTINGS
    return 0


if __name__ == "__main__":
    sys.exit(main())
