"""A real headless Chromium, as Debian ships it, that talks to nobody but the page under test."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Open a browser; while it is open, no other code of this thread can use asyncio."""
    assert CHROMIUM.exists(), "no browser: run deploy/system-packages.sh browser"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), headless=True, args=[*FLAGS])
        try:
            yield opened
        finally:
            opened.close()
