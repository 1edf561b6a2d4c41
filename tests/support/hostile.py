"""The corpus of hostile messages (tests/streams/hostile), as it lies on disk."""

import gzip
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parents[1] / "streams" / "hostile"
CONTRACT_PATH = FOLDER / "contract.toml"
KINDS = ("batches", "conditions", "summaries")


class Hostile(NamedTuple):
    """One message, and a part of the reason for which it must be refused."""

    name: str
    content: bytes
    reason: str


def hostile_messages(kind):
    """Return every message of a kind."""
    index = tomllib.loads((FOLDER / kind / "index.toml").read_text(encoding="utf-8"))
    return [Hostile(name, _content(FOLDER / kind / name), reason) for name, reason in index.items()]


def _content(path):
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


def at(seconds):
    """Return a fixed time, and others after it."""
    return datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=seconds)
