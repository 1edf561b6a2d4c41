"""A worker that joins its group and then stands still: its emulator never answers. ``python -m`` runs it."""

import sys
import threading
from pathlib import Path

from streams.worker import load_settings, run_worker


class SilentEmulators:
    """Emulators that never answer, against their promise."""

    def outputs(self, _package, _inputs):
        threading.Event().wait()


if __name__ == "__main__":
    run_worker(load_settings(Path(sys.argv[1])), SilentEmulators())
