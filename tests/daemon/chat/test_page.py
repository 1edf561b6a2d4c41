"""docs/mattermost.md names what the code has."""

import re
from datetime import timedelta
from pathlib import Path

from daemon.alerts.message import Answer, Offer
from daemon.chat.buttons import TicketButtons
from daemon.chat.refusal import Reason
from daemon.chat.signing import Signer
from daemon.site.sections import MattermostSettings
from tests.daemon.chat.test_signing import NOW

PAGE = (Path(__file__).parents[3] / "docs" / "mattermost.md").read_text(encoding="utf-8")


def section(title):
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_every_refusal_that_is_counted_is_explained():
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", section("What is refused"), re.MULTILINE)

    assert {name.strip("` ") for row in rows for name in row.split(",")} == set(Reason)


def test_every_button_is_explained():
    drawn = TicketButtons(Signer(b"k"), "http://x", timedelta(hours=1), lambda: NOW)
    offers = [Offer(answer=answer) for answer in Answer]
    (attachment,) = drawn.props("anomaly-1", offers)["attachments"]

    rows = re.findall(r"^\| ([A-Z][^|]*) \|", section("Buttons"), re.MULTILINE)
    assert set(rows) == {action["name"] for action in attachment["actions"]}


def test_keys_of_the_page_are_keys_of_the_file():
    named = re.findall(r"^(\w+) = ", section("Set up").split("[operators.ada]")[0], re.MULTILINE)

    assert named
    assert set(named) <= set(MattermostSettings.model_fields)
