"""A running daemon and a real browser for the console's tests."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.support.browser import chromium
from tests.support.daemon import copy_site

OPERATORS = {"ada": "Ada Lovelace", "max": "Max Planck", "vera": "Vera Rubin"}
ROLES = {"ada": "expert", "max": "operator", "vera": "viewer"}
_ROOT = Path(__file__).parents[3]
_START_S = 90.0
_PATIENCE_MS = 60_000


@dataclass(frozen=True)
class Server:
    """Address of a running daemon, its site, and the tokens of its operators."""

    url: str
    site: Path

    def token(self, operator: str) -> str:
        """Token of an operator."""
        return f"{operator}-token-0123456789abcdef"

    def get(self, path: str, operator: str = "max") -> httpx.Response:
        """Read the API."""
        headers = {"Authorization": f"Bearer {self.token(operator)}"}
        return httpx.get(f"{self.url}/api/v1{path}", headers=headers, timeout=60)


def make_site(folder: Path) -> Path:
    """Copy the example site and give it three people, of whom only ada may decide."""
    site = copy_site(folder)
    (site / "secrets").mkdir()
    lines = []
    for name, full_name in OPERATORS.items():
        token = site / "secrets" / f"{name}-token"
        token.write_text(Server("", site).token(name))
        token.chmod(0o600)
        lines.append(
            f'[operators.{name}]\nfull_name = "{full_name}"\nrole = "{ROLES[name]}"\n'
            f'token_file = "secrets/{name}-token"\n'
        )
    with (site / "lumiwatch.toml").open("a") as file:
        file.write("\n" + "\n".join(lines))
    model = site / "models" / "anomaly" / "model.toml"
    model.write_text(model.read_text().replace('approvers = ["local"]', 'approvers = ["ada"]'))
    return site


@contextmanager
def running(
    folder: Path, *arguments: str, program: str = "console_server", port: int = 0
) -> Iterator[Server]:
    """Run a daemon until the block ends, on a site of its own; a folder that has a site keeps it.

    Parameters
    ----------
    program
        Module of `tests.support` that serves it.
    port
        Where it listens; 0: anywhere.
    """
    site = folder / "site" if (folder / "site").exists() else make_site(folder)
    command = [sys.executable, "-m", f"tests.support.{program}", str(site), *arguments]
    environment = {**os.environ, "LUMIWATCH_CONSOLE__PORT": str(port), "OMP_NUM_THREADS": "1"}
    log = folder / "server.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        yield Server(_address(process, log), site)
    finally:
        process.terminate()
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _address(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    ends = time.monotonic() + _START_S
    while time.monotonic() < ends and process.poll() is None:
        if select.select([process.stdout], [], [], 0.5)[0]:
            line = process.stdout.readline()
            if line.startswith("ready "):
                return line.split()[1]
    raise AssertionError(f"the daemon did not start: {log.read_text()[-2000:]}")


@pytest.fixture(scope="module")  # no longer: while it is open, no other test in this process can use asyncio
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=_PATIENCE_MS)  # of its own it waits 5 s, which a busy machine may need
    with chromium() as opened:
        yield opened


@pytest.fixture
def visitor(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    context.set_default_timeout(_PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture
def visit(visitor: BrowserContext) -> Callable[[Server, str], Page]:
    """Open a page with an operator logged in; whatever a page should not do fails the test."""

    def log_in(server: Server, operator: str) -> Page:
        page = visitor.new_page()
        page.on("pageerror", lambda error: pytest.fail(f"script error: {error}"))
        page.on("request", lambda request: _must_be_local(request.url, server))
        page.goto(f"{server.url}/login?token={server.token(operator)}")
        page.wait_for_url(f"{server.url}/")
        return page

    return log_in


def _must_be_local(url: str, server: Server) -> None:
    local = (server.url, server.url.replace("http", "ws", 1), "data:", "blob:")
    assert url.startswith(local), f"the console asked the internet for {url}"
