from threading import Event

import pytest
from sqlmodel import Session, select

from daemon.alerts.channels import LOG, MATTERMOST, Addresses, BotChannel, LogChannel
from daemon.alerts.evidence import Evidence, MeanPair
from daemon.alerts.heads import Heads
from daemon.alerts.mattermost import BotClient
from daemon.alerts.notifier import GROUP_WAIT, Notifier
from daemon.alerts.outbox import Outbox
from daemon.errors import NotFound
from daemon.incidents.intake import take_verdict
from daemon.operations import Operations
from daemon.responses.approval import Approval
from daemon.responses.patience import Patience
from daemon.responses.steps import StepLog
from daemon.store.records import NotificationRecord
from streams.judging.assessment import InputShift
from streams.judging.verdict import State
from tests.support.daemon import Everybody, NoWorkflows, make_verdict
from tests.support.mattermost import MattermostServer

WORST = (
    InputShift(name="jet[0].pt", ks_distance=0.07, mean_shift_lsb=10.2, mean_shift=5.1, unit="GeV"),
    InputShift(name="jet[1].phi", ks_distance=0.05, mean_shift_lsb=1.0, mean_shift=0.04, unit="rad"),
    InputShift(name="met[0].pt", ks_distance=0.01, mean_shift_lsb=0.1, mean_shift=0.05, unit="GeV"),
)


class KnownMeans(Evidence):
    """Fake evidence: the means of two inputs, whatever the window."""

    def means(self, *place):
        *_, inputs = place
        known = {
            "jet[0].pt": MeanPair(53.4, 48.3, "GeV"),
            "jet[1].phi": MeanPair(0.1, 0.05, "rad", relative=False),
        }
        return {name: known[name] for name in inputs if name in known}


@pytest.fixture
def server():
    return MattermostServer()


@pytest.fixture
def make(engine, site, clock, server):
    clients = []

    def build(addresses=None, written=None):
        client = BotClient("http://chat.example", "secret", transport=server.transport)
        clients.append(client)
        channels = {
            LOG: LogChannel((written if written is not None else []).append),
            MATTERMOST: BotChannel(client),
        }
        outbox = Outbox(
            engine, addresses or Addresses(bot=True, replay_channel_id="replay-channel"), channels
        )
        notifier = Notifier(
            engine,
            outbox,
            Heads(
                engine,
                KnownMeans(engine, site),
                site=site.name,
                console_url=lambda: "http://127.0.0.1:8642",
            ),
            pictures=None,
            clock=clock,
        )
        return notifier, outbox

    yield build
    for client in clients:
        client.close()


@pytest.fixture
def alarm(engine, site, clock):
    def raise_alarm(lumisection=62, **changes):
        verdict = make_verdict(lumisection, worst_inputs=WORST, **changes)
        return take_verdict(engine, site, verdict, now=clock())

    return raise_alarm


@pytest.fixture
def propose(engine, site, clock):
    def write(response_id):
        approval = Approval(engine, site, clock, Patience(Event()))
        approval.propose(response_id, StepLog(engine, response_id, clock))

    return write


def test_an_alarm_waits_for_its_proposal_and_is_one_message(make, alarm, propose, clock, server):
    notifier, outbox = make()
    alarm()
    notifier.tell()
    assert outbox.deliver_due(clock()) == 0

    propose("anomaly-1-r1")
    notifier.tell()
    outbox.deliver_due(clock())

    ((head,),) = server.threads()
    said = head["message"].replace("\\", "")
    for needed in ("ALARM", "REPLAY", "SIMULATED DATA", "lumiwatch approve anomaly-1-r1", "prescale out"):
        assert needed in said
    assert "| jet[0].pt mean | 53.4 GeV | 48.3 GeV | +10.6 % (KS D 0.070, mean +10.20 LSB) |" in said
    assert "| jet[1].phi mean | 0.1 rad | 0.05 rad | KS D 0.050, mean +1.00 LSB |" in said
    assert "met[0].pt" not in said
    assert head["channel_id"] == "replay-channel"


def test_an_alarm_without_a_proposal_is_not_held_back_for_long(make, alarm, clock, server):
    notifier, outbox = make()
    alarm()
    clock.move(GROUP_WAIT.total_seconds() + 1)

    notifier.tell()
    outbox.deliver_due(clock())

    assert len(server.posts) == 1


def test_a_decision_is_a_reply_and_the_head_follows(make, alarm, propose, engine, site, clock, server):
    notifier, outbox = make()
    alarm()
    propose("anomaly-1-r1")
    notifier.tell()
    outbox.deliver_due(clock())
    operations = Operations(engine, site, NoWorkflows(), clock, access=Everybody())
    operations.reject("anomaly-1-r1", operator="local", comment="wait for the expert")
    operations.resolve("anomaly-1", operator="local", comment="fixed by hand")
    notifier.tell()
    outbox.deliver_due(clock())

    (thread,) = server.threads()
    head, *replies = (post["message"].replace("\\", "") for post in thread)
    assert "RESOLVED" in head
    assert "fixed by hand" in head
    assert ["REJECTED" in replies[0], "wait for the expert" in replies[0], "RESOLVED" in replies[1]] == [
        True
    ] * 3
    assert len(replies) == 2


def test_a_restart_tells_nothing_twice_and_forgets_nothing(make, alarm, propose, engine, clock, server):
    notifier, outbox = make()
    alarm()
    propose("anomaly-1-r1")
    notifier.tell()
    outbox.deliver_due(clock())

    restarted, second_outbox = make()
    alarm(63, families=("inputs", "rate", "score"))
    restarted.tell()
    second_outbox.deliver_due(clock())

    (thread,) = server.threads()
    assert len(thread) == 1
    assert "inputs, rate, score" in thread[0]["message"]
    with Session(engine) as session:
        keys = session.exec(select(NotificationRecord.key)).all()
    assert len(keys) == len(set(keys))


def test_simulated_data_stay_in_the_log_when_no_channel_is_named_for_them(make, alarm, clock, server):
    written = []
    notifier, outbox = make(Addresses(bot=True, channel_id="live-channel"), written)
    alarm()
    clock.move(3)

    notifier.tell()
    outbox.deliver_due(clock())

    assert server.posts == {}
    assert "SIMULATED DATA" in written[0]


def test_one_event_that_cannot_be_told_does_not_silence_the_others(make, alarm, clock, server, monkeypatch):
    notifier, outbox = make()
    alarm()
    clock.move(3)
    failures = []
    monkeypatch.setattr(notifier, "_on_contained", lambda: failures.append(1))
    tell_event = notifier._tell_event

    def fail_once(event, incident_id):
        if not failures:
            raise NotFound("gone")
        tell_event(event, incident_id)

    monkeypatch.setattr(notifier, "_tell_event", fail_once)
    notifier.tell()
    alarm(63, families=("inputs", "rate", "score"))
    notifier.tell()
    outbox.deliver_due(clock())

    assert len(failures) == 1
    assert len(server.posts) == 1


def test_a_good_verdict_resolves_in_the_thread(make, alarm, engine, site, clock, server):
    notifier, outbox = make()
    alarm()
    clock.move(3)
    notifier.tell()
    take_verdict(engine, site, make_verdict(70, State.GOOD), now=clock())
    notifier.tell()
    outbox.deliver_due(clock())

    (thread,) = server.threads()
    assert "RESOLVED" in thread[0]["message"]
    assert "RESOLVED" in thread[-1]["message"]
