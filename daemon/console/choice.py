"""What somebody looks at on the page of a model, as it stands in the address, so that a link shows the same.

Pure; knows neither pages nor data. What does not exist is for the page to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode

_MOST: Final = 2**31 - 1
_LONGEST: Final = 128


@dataclass(frozen=True)
class Choice:
    """One choice; None follows the newest, or what tells most.

    Parameters
    ----------
    run, lumisection
        Where to look.
    package
        Of the window: a lumisection has two when the firmware changed inside it.
    quantity
        Name of an input, ``score``, or a map such as ``jet map``.
    """

    run: int | None = None
    lumisection: int | None = None
    package: str | None = None
    quantity: str | None = None

    def address(self, model: str) -> str:
        """Write the address of a model's page that shows this choice."""
        known = {
            "run": self.run,
            "ls": self.lumisection,
            "package": self.package,
            "input": self.quantity,
        }
        query = urlencode({key: value for key, value in known.items() if value is not None}, quote_via=quote)
        path = f"/models/{quote(model, safe='')}"
        return f"{path}?{query}" if query else path


def choice_of(query: Mapping[str, str]) -> Choice:
    """Read a choice from an address; what cannot be one is left out.

    Parameters
    ----------
    query
        Of the address, decoded.
    """
    return Choice(
        run=_number(query.get("run")),
        lumisection=_number(query.get("ls")),
        package=_text(query.get("package")),
        quantity=_text(query.get("input")),
    )


def _number(text: str | None) -> int | None:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > len(str(_MOST)):
        return None
    return min(int(text), _MOST)


def _text(text: str | None) -> str | None:
    return text if text and len(text) <= _LONGEST and text.isprintable() else None
