"""Responses on the command line of a running daemon: what is asked, what is said, what comes next."""

from pathlib import Path

import pytest

from daemon.incidents.intake import take_verdict
from daemon.operations import utc_now
from daemon.site.settings import load_site
from daemon.store import queries
from daemon.store.database import open_database
from daemon.store.records import ResponseState
from streams.judging.verdict import State
from tests.support.commands import lumiwatch, running
from tests.support.daemon import copy_site, make_verdict
from tests.support.plant import wait_for

pytestmark = pytest.mark.slow


def test_from_a_request_to_an_approval(tmp_path: Path):
    folder = copy_site(tmp_path)
    site = load_site(folder)
    engine = open_database(site.database_url)
    take_verdict(engine, site, make_verdict(60, State.GOOD), now=utc_now())
    with running(tmp_path / "screen", "serve", "--site", folder, LUMIWATCH_CONSOLE__PORT="0") as daemon:
        daemon.wait_for("console: http")

        def say(*arguments: str) -> str:
            done = lumiwatch(*arguments, "--site", str(folder))
            assert done.returncode == 0, done.stderr
            return done.stdout

        assert "response anomaly-1-r1 is being prepared" in say(
            "retrain", "request", "anomaly", "--reason", "slow drift"
        )
        wait_for(
            lambda: queries.response(engine, "anomaly-1-r1").state is ResponseState.PROPOSED, "the proposal"
        )

        shown = " ".join(say("incidents", "show", "anomaly-1").split())
        for words in (
            "Retraining asked for by local: slow drift",
            "asks whether to begin",
            "approved by nobody yet (1 needed)",
            "missing local",
            "until 2",
            "It waits for 1 approval of local (whether to begin)",
        ):
            assert words in shown

        assert "It retrains, builds and proves a package and reconfigures the board" in say(
            "approve", "anomaly-1-r1"
        )
        again = lumiwatch("reject", "anomaly-1-r1", "--site", str(folder))
        assert again.returncode == 2
        assert "anomaly-1-r1" in again.stderr
    engine.dispose()
