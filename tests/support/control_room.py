"""A control room for tests: a site's database, its alerts and its chat, with a clock moved by hand."""

from __future__ import annotations

from datetime import timedelta
from threading import Event

from daemon.alerts.channels import LOG, MATTERMOST, WEBHOOK, Addresses, BotChannel, LogChannel, WebhookChannel
from daemon.alerts.evidence import Evidence
from daemon.alerts.heads import Heads
from daemon.alerts.mattermost import BotClient, WebhookClient
from daemon.alerts.notifier import Notifier
from daemon.alerts.outbox import Outbox
from daemon.incidents.intake import take_verdict
from daemon.incidents.silences import Silences, begin_due
from daemon.operations import Operations
from daemon.responses.approval import Approval
from daemon.responses.patience import Patience
from daemon.responses.steps import StepLog
from daemon.store import queries
from streams.integrity import judge_integrity
from streams.judging.verdict import INTEGRITY, State
from tests.support.daemon import Everybody, NoWorkflows, make_verdict
from tests.support.mattermost import MattermostServer

BOTH = Addresses(bot=True, channel_id="live-channel", replay_channel_id="replay-channel")
REPEAT = timedelta(hours=4)


class ControlRoom:
    """Verdicts come in, messages come out.

    Parameters
    ----------
    engine, site, clock
        Of the test.
    addresses
        Where messages may go.
    """

    def __init__(self, engine, site, clock, addresses=BOTH):
        self.engine, self.site, self.clock = engine, site, clock
        self.server = MattermostServer()
        self.written = []
        self.contained = []
        self._addresses = addresses
        self._clients = []
        self.silences = Silences(engine, site, clock)
        self.operations = Operations(engine, site, NoWorkflows(), clock, access=Everybody())
        self.restart()

    def restart(self):
        """Build the alerts anew on the same database, as a new process does."""
        client = BotClient("http://chat.example", "secret", transport=self.server.transport)
        hook = WebhookClient("http://chat.example/hooks/abc", transport=self.server.transport)
        self._clients += [client, hook]
        channels = {
            LOG: LogChannel(self.written.append),
            MATTERMOST: BotChannel(client),
            WEBHOOK: WebhookChannel(hook),
        }
        self.outbox = Outbox(self.engine, self._addresses, channels)
        heads = Heads(
            self.engine,
            Evidence(self.engine, self.site),
            site=self.site.name,
            console_url=lambda: "http://127.0.0.1:8642",
        )
        self.notifier = Notifier(
            self.engine,
            self.outbox,
            heads,
            pictures=None,
            repeat=REPEAT,
            clock=self.clock,
            on_contained=lambda: self.contained.append(1),
        )

    def close(self):
        """Close the connections."""
        for client in self._clients:
            client.close()

    def take(self, verdict):
        """Take one verdict, and write the proposal of a response that it asks for."""
        taken = take_verdict(self.engine, self.site, verdict, now=self.clock())
        for response_id in taken.start_responses:
            approval = Approval(self.engine, self.site, self.clock, Patience(Event()))
            approval.propose(response_id, StepLog(self.engine, response_id, self.clock))
        return taken

    def alarm(self, lumisection, **changes):
        """Take an alarm of live data."""
        return self.take(make_verdict(lumisection, **{"simulated": False, **changes}))

    def fault(self, lumisection, **changes):
        """Take a firmware fault of live data."""
        content = {
            "families": (INTEGRITY,),
            "reason": "Firmware fault: 12 of 2,000 checked events differ from the emulator.",
            "firmware_fault": True,
            "integrity": judge_integrity(2000, 12),
        }
        return self.alarm(lumisection, **{**content, **changes})

    def good(self, lumisection, state=State.GOOD, **changes):
        """Take a verdict of live data that is no alarm."""
        return self.take(make_verdict(lumisection, state, **{"simulated": False, **changes}))

    def follow(self, move_s=0.0):
        """Let the alerts look once, as their thread does twice a second."""
        if move_s:
            self.clock.move(move_s)
        begin_due(self.engine, self.clock())
        self.notifier.tell()
        self.notifier.remind()
        return self.outbox.deliver_due(self.clock())

    def silence(self, hours=2.0, *, after_hours=0.0, **scope):
        """Silence everything, or what is named."""
        now = self.clock()
        return self.silences.create(
            author="ada",
            reason="beam tests",
            starts_at=now + timedelta(hours=after_hours),
            ends_at=now + timedelta(hours=after_hours + hours),
            **scope,
        )

    def incident(self, incident_id="anomaly-1"):
        """Read an incident."""
        return queries.incident(self.engine, incident_id)

    def headlines(self, channel="live-channel"):
        """First lines of all messages in a channel, thread by thread, without markup."""
        return [
            [post["message"].split("\n", 1)[0].replace("\\", "").split(": ", 1)[1] for post in thread]
            for thread in self.server.threads()
            if thread[0]["channel_id"] == channel
        ]

    def words(self):
        """State of every message in the only thread: ``["RESOLVED", "REOPENED"]``."""
        (thread,) = self.headlines()
        return [line.split(" | ")[0] for line in thread]
