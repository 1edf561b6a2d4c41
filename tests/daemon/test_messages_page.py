"""The table of events in docs/messages.md is that of the code."""

import re
from pathlib import Path

from daemon.store.views import EventView

PAGE = Path(__file__).parents[2] / "docs" / "messages.md"


def test_fields_of_an_event_are_those_of_the_page():
    section = PAGE.read_text(encoding="utf-8").split("\n## Event\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == ["version", *EventView.model_fields]
