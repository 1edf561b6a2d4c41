"""A PostgreSQL server for tests: a cluster of its own in a temporary folder, reached by a unix socket.

Nothing of the machine's own clusters is touched, and no port is opened. PostgreSQL refuses to run as root:
there it runs as the user ``postgres`` that Debian's package makes.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

from sqlalchemy import NullPool, create_engine, make_url, text

from streams.broker.embedded import die_with_parent

OVERRIDE = "LUMIWATCH_TEST_POSTGRES"
"""Environment variable: URL of a server to use instead, whose user may create databases."""
START_TIMEOUT_S = 60.0
USER = "lumiwatch"
# a test's data need not outlive the machine, but must outlive a crash of the server
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "log_min_messages": "fatal",
}


class PostgresServer:
    """A server that can be stopped and started again on the same data. A context manager.

    Parameters
    ----------
    binaries
        Folder of ``initdb`` and ``postgres``; None finds them.
    """

    def __init__(self, binaries=None):
        self._binaries = binaries or _binaries()
        self._account = (
            {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        )
        self._folder = Path(tempfile.mkdtemp(prefix="lumiwatch-pg-"))
        self._process = None

    @property
    def url(self):
        """URL of the database ``postgres``, in which nothing is kept."""
        return f"postgresql+psycopg://{USER}@/postgres?host={self._folder}"

    def __enter__(self):
        try:
            if self._account:
                shutil.chown(self._folder, "postgres", "postgres")
            self._run(
                "initdb", "--pgdata", self._folder / "data", "--username", USER, "--auth", "trust",
                "--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions",
            )  # fmt: skip
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind, error, trace):
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self):
        """Start the server and wait until it answers."""
        settings = [f"--{key}={value}" for key, value in SETTINGS.items()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._binaries / "postgres", "-D", self._folder / "data",
                    f"--unix_socket_directories={self._folder}", *settings,
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 - it calls prctl and takes no lock
                **self._account,
            )  # fmt: skip
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"PostgreSQL does not start: {self._log.read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self, how=signal.SIGINT):
        """Stop the server. SIGINT ends every connection first, SIGQUIT crashes it."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(how)
            process.wait(START_TIMEOUT_S)

    @property
    def _log(self):
        return self._folder / "log"

    def _answers(self):
        command = [self._binaries / "pg_isready", "--quiet", "--host", self._folder, "--username", USER]
        return subprocess.run(command, check=False).returncode == 0

    def _run(self, program, *arguments):
        done = subprocess.run(
            [self._binaries / program, *arguments],
            cwd=self._folder, capture_output=True, text=True, check=False, **self._account,
        )  # fmt: skip
        if done.returncode != 0:
            raise AssertionError(f"{program} fails: {done.stdout[-1000:]}{done.stderr[-1000:]}")


@contextlib.contextmanager
def any_server():
    """Yield the URL of the server for this test run: the one that `OVERRIDE` names, or one of our own."""
    if os.environ.get(OVERRIDE):
        yield os.environ[OVERRIDE]
        return
    with PostgresServer() as server:
        yield server.url


@contextlib.contextmanager
def fresh_database(server):
    """Yield the URL of a new, empty database on a server; it is dropped at the end.

    Parameters
    ----------
    server
        URL of a database of that server.
    """
    admin = create_engine(server, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    name = f"lumiwatch_{uuid.uuid4().hex}"
    try:
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    finally:
        admin.dispose()


def _binaries():
    found = shutil.which("postgres")
    if found is not None:
        return Path(found).resolve().parent
    installed = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]), reverse=True
    )
    if not installed:
        raise AssertionError(
            "PostgreSQL is not installed: run deploy/system-packages.sh database, "
            f"or set {OVERRIDE} to the URL of a server"
        )
    return installed[0].parent
