"""Worker processes that a test may kill whenever it likes, each started again by a supervisor.

They are forked from one process that has everything imported, so that a start costs a tenth of what it costs
from nothing; from there on they are what ``python -m streams.worker`` runs.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass, field

from streams import worker

END_TIMEOUT_S = 20
PR_SET_PDEATHSIG = 1


@dataclass
class Workers:
    """Workers by number.

    Attributes
    ----------
    settings
        Of every worker; each gets a folder of its own.
    folder
        For those folders and the logs.
    """

    settings: worker.WorkerSettings
    folder: object
    killed: int = 0
    ended: int = 0
    """How many ended by themselves, as workers do that cannot go on."""
    _running: dict = field(default_factory=dict)
    _context: object = None

    def __post_init__(self):
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["streams.worker"])

    def start(self, number, *, instance):
        """Start a worker. ``instance``: under its own name in the group, so that it takes its old place."""
        folder = self.folder / f"worker-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"worker-{number}" if instance else None
        settings = self.settings.model_copy(update={"state_dir": folder, "instance": name})
        file = folder / "worker.json"
        file.write_text(settings.model_dump_json())
        process = self._context.Process(
            target=_run, args=(str(file), str(self.folder / f"worker-{number}.log"))
        )
        process.start()
        self._running[number] = process

    def kill(self, number, *, instance):
        """SIGKILL a worker and start it again."""
        process = self._running[number]
        alive = process.is_alive()
        process.kill()
        process.join(END_TIMEOUT_S)
        process.close()
        self.killed += alive
        self.ended += not alive
        self.start(number, instance=instance)

    def supervise(self):
        """Start again those that ended by themselves."""
        for number, process in list(self._running.items()):
            if not process.is_alive():
                process.close()
                self.ended += 1
                self.start(number, instance=True)

    def stop(self):
        """Kill them all."""
        for process in self._running.values():
            process.kill()
            process.join(END_TIMEOUT_S)
            process.close()
        self._running.clear()

    def logs(self):
        """Return everything they wrote."""
        return "".join(path.read_text(errors="replace") for path in self.folder.glob("worker-*.log"))


def _run(settings, log):
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = ["streams.worker", settings]
    # the process that forks outlives the test by a moment, and ends with it
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    raise SystemExit(worker.main([settings]))
