"""A process that answers one incident with the real durable engine and a fake workshop, for kill -9.

Usage: python -m tests.support.respond SITE_FOLDER CALLS_FILE [SLOW_STEP]
Writes each call of the workshop to CALLS_FILE; at SLOW_STEP it waits to be killed.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from threading import Event

from daemon.incidents.intake import take_verdict
from daemon.operations import utc_now
from daemon.responses.durable import DurableResponses
from daemon.responses.procedure import ResponseProcedure
from daemon.site.settings import load_site
from daemon.store.database import open_database
from tests.support.daemon import FakeWorkshop, make_verdict


def main(folder: str, calls: str, slow_step: str = "") -> None:
    """Take an alarm, start or take up the response, and run until it has ended or SIGTERM comes."""
    site = load_site(Path(folder))
    engine = open_database(site.database_url)
    stopping, ended = Event(), Event()

    def on_call(name: str) -> None:
        with Path(calls).open("a") as file:
            file.write(name + "\n")
        if name == slow_step:
            time.sleep(60)

    procedure = ResponseProcedure(engine, site, FakeWorkshop(on_call=on_call), utc_now, stopping)
    responses = DurableResponses(engine, site.database_url, procedure, stopping, lambda *_: ended.set())
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    responses.launch()
    alarm = make_verdict(63, id="alarm-63", onset_lumisection=61)
    for response_id in take_verdict(engine, site, alarm, now=utc_now()).start_responses:
        responses.start(response_id)
    ended.wait(60)
    responses.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
