"""How the daemon writes its log to standard error: lines for people, or one JSON object a line for programs.

What looks like a secret is masked in both, in case a library writes one. Knows no setting but its own form.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Final, Literal

LogFormat = Literal["text", "json"]
IDENTITIES: Final = ("model", "incident", "response")
"""What a log call may name with ``extra={"incident": ...}``; JSON lines carry them as keys."""

_NOISY: Final = ("kafka", "httpx", "dbos", "matplotlib", "alembic")
_SECRET: Final = re.compile(
    r"(?P<keep>\bBearer\s+|\bBasic\s+|[?&;\s](?:token|password|secret|access_token|code)=|://[^\s:/@]+:)[^\s&@'\"]+",
    re.IGNORECASE,
)


def set_up_logging(form: LogFormat) -> None:
    """Log to standard error: what the daemon does, and only warnings of the libraries below it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else PlainLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)


def masked(text: str) -> str:
    """Hide what looks like a token or a password."""
    return _SECRET.sub(r"\g<keep>***", text)


class PlainLines(logging.Formatter):
    """A line for people: time, level, logger, message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Write one record, with its traceback below it."""
        return masked(super().format(record))


class JsonLines(logging.Formatter):
    """One JSON object: ``time`` (UTC), ``level``, ``logger``, ``message``, identities, ``exception``."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record in one line."""
        at = datetime.fromtimestamp(record.created, UTC)
        content = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": masked(record.getMessage()),
        }
        for name in IDENTITIES:
            value = getattr(record, name, None)
            if value is not None:
                content[name] = str(value)
        if record.exc_info:
            content["exception"] = masked(self.formatException(record.exc_info))
        return json.dumps(content, ensure_ascii=False)
