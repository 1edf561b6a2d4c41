"""Child processes that do not outlive their parent. Linux.

Refuses to know what the processes do.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> Callable[[], None]:
    """Give a `preexec_fn` that lets the kernel kill the child when the thread that started it ends.

    Mind the thread: use it from one that lives as long as the child should.

    Examples
    --------
    >>> subprocess.Popen(command, preexec_fn=die_with_parent())  # doctest: +SKIP
    """
    library = ctypes.CDLL(None)  # loaded before the fork: little is safe after it
    parent = os.getpid()

    def prepare() -> None:
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


def end_with_standard_input() -> None:
    """Send this process SIGTERM when its standard input closes: a pipe that only the parent holds.

    Unlike `die_with_parent` it does not depend on the thread that started the child.
    """

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent-watch", daemon=True).start()
