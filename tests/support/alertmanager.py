"""A real Prometheus Alertmanager for tests, on a loopback port of its own, and a pager that it calls."""

import json
import queue
import re
import shutil
import ssl
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from streams.broker.embedded import die_with_parent

START_TIMEOUT_S = 30.0
USER, PASSWORD = "lumiwatch", "alerts-password"
_HASH = "$2b$04$rXtP5FY3/hPKPXFo6lDlOeAS8eMIK9ZFC57uyj8Y4hWSNMeP5eAbe"  # bcrypt of the password


class AlertmanagerServer:
    """A server that can be stopped and started again on the same data and port. A context manager.

    Parameters
    ----------
    config
        Text of its configuration file.
    certificate
        Shown to clients, who then must give `USER` and `PASSWORD` too; None: no TLS.
    """

    def __init__(self, config, certificate=None):
        self._program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
        if self._program is None:
            raise AssertionError("no Alertmanager: run deploy/system-packages.sh alertmanager")
        self._folder = Path(tempfile.mkdtemp(prefix="lumiwatch-am-"))
        self._certificate = certificate
        (self._folder / "config.yml").write_text(config)
        self._port = 0
        self._process = None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind, error, trace):
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def url(self):
        """Its address."""
        return f"{'https' if self._certificate else 'http'}://127.0.0.1:{self._port}"

    def start(self):
        """Start it and wait until it listens."""
        arguments = [
            f"--config.file={self._folder / 'config.yml'}",
            f"--storage.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--cluster.listen-address=",
        ]
        if self._certificate is not None:
            web = self._folder / "web.yml"
            web.write_text(
                f"tls_server_config:\n  cert_file: {self._certificate.cert}\n"
                f"  key_file: {self._certificate.key}\n"
                f"basic_auth_users: {{{USER}: '{_HASH}'}}\n"
            )
            arguments.append(f"--web.config.file={web}")
        log = self._folder / "log"
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [self._program, *arguments],
                stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 - it calls prctl and takes no lock
            )  # fmt: skip
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (found := re.search(r'"Listening on" address=127\.0\.0\.1:(\d+)', log.read_text())):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the Alertmanager does not start: {log.read_text()[-2000:]}")
            time.sleep(0.02)
        self._port = int(found[1])

    def stop(self):
        """Stop it; what it knows stays on disk."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.terminate()
            process.wait(START_TIMEOUT_S)

    def alerts(self):
        """Alerts that it holds as firing, by the incident they name."""
        verify, auth = True, None
        if self._certificate is not None:
            verify, auth = ssl.create_default_context(cafile=self._certificate.ca), (USER, PASSWORD)
        with httpx.Client(verify=verify, auth=auth, trust_env=False) as client:
            found = client.get(f"{self.url}/api/v2/alerts").raise_for_status().json()
        return {alert["labels"]["incident"]: alert for alert in found}


@contextmanager
def pager(status=200):
    """Listen on loopback for JSON; yields address and a queue of (headers, content). It answers a status."""
    calls = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            content = self.rfile.read(int(self.headers["Content-Length"]))
            calls.put((dict(self.headers), json.loads(content)))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            """Keep quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}", calls
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
