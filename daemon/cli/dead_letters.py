"""`lumiwatch dead-letters`: the messages that were refused lately, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from daemon.cli.output import DEFAULT_SITE, JsonOption, SiteOption, print_json, print_table
from daemon.site.settings import load_site


def dead_letters(
    site: SiteOption = DEFAULT_SITE,
    limit: Annotated[int, typer.Option(help="At most this many.", min=1, max=10_000)] = 20,
    as_json: JsonOption = False,
) -> None:
    """Show the newest messages that were refused, with the reason; the oldest of them first."""
    from daemon.process.dead_letters import newest_dead_letters

    letters = newest_dead_letters(load_site(site), limit)
    if as_json:
        print_json([letter.model_dump(mode="json") for letter in letters])
        return
    rows = [
        (
            f"{letter.at:%Y-%m-%d %H:%M:%S}",
            f"{letter.topic}[{letter.partition}]@{letter.offset}",
            letter.size,
            letter.reason,
        )
        for letter in letters
    ]
    print_table("dead letters", ("refused at (UTC)", "message", "bytes", "reason"), rows)
