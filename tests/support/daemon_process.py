"""A daemon in a process of its own, at a free port, with its log."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from daemon.access.people import default_token_file
from daemon.site.settings import Site

ROOT = Path(__file__).parents[2]
CODE = """
import pathlib, sys
from daemon.process.service import serve
from daemon.site.settings import load_site
serve(load_site(pathlib.Path(sys.argv[1])))
"""


@dataclass
class Served:
    """A running daemon and a client with the token of `local`."""

    process: subprocess.Popen[str]
    client: httpx.Client
    log: Path

    def log_size(self) -> int:
        """Tell how much there is of the log now, in bytes."""
        return self.log.stat().st_size

    def wait_for_log(self, words: str, *, after: int = 0, timeout_s: float = 60.0) -> str:
        """Return the line of the log with these words, after so many bytes of it."""
        deadline = time.monotonic() + timeout_s
        while True:
            for line in self.log.read_bytes()[after:].decode().splitlines():
                if words in line:
                    return line
            assert time.monotonic() < deadline, f"{words!r} is not in the log:\n{self.log.read_text()}"
            time.sleep(0.05)


@contextmanager
def daemon_process(site: Site, log: Path, **environment: str) -> Iterator[Served]:
    """Run the daemon of a site that declares nobody until the block ends."""
    with log.open("w") as written:
        process = subprocess.Popen(
            [sys.executable, "-c", CODE, str(site.folder)],
            cwd=ROOT,
            env={**os.environ, "LUMIWATCH_CONSOLE__PORT": "0", **environment},
            stdout=subprocess.PIPE,
            stderr=written,
            text=True,
        )
    try:
        assert process.stdout is not None
        address = None
        token = ""
        for line in process.stdout:
            token = default_token_file(site).read_text().strip()
            assert token not in line, "a token went into what may be a log file"
            address = re.search(r"console: (http://\S+)", line)
            if address:
                break
        assert address is not None, log.read_text()
        with httpx.Client(
            base_url=address[1], headers={"Authorization": f"Bearer {token}"}, timeout=20, trust_env=False
        ) as client:
            yield Served(process, client, log)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
