from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlmodel import Session, SQLModel, select

from daemon.alerts.channels import (
    LOG,
    MATTERMOST,
    WEBHOOK,
    Action,
    Addresses,
    BotChannel,
    LogChannel,
    WebhookChannel,
    choose_address,
)
from daemon.alerts.mattermost import BotClient, WebhookClient
from daemon.alerts.message import AlertMessage, Answer, Offer, Stage
from daemon.alerts.outbox import Outbox, backoff_s
from daemon.store.records import NotificationRecord
from streams.store.database import open_engine
from tests.support.mattermost import MattermostServer, rate_limited

NOW = datetime(2026, 7, 1, 3, 0, tzinfo=UTC)
BOTH = Addresses(bot=True, channel_id="live-channel", replay_channel_id="replay-channel")


@pytest.fixture
def engine(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'site.sqlite'}")
    SQLModel.metadata.create_all(engine, tables=[SQLModel.metadata.tables["daemon_notifications"]])
    yield engine
    engine.dispose()


@pytest.fixture
def server():
    return MattermostServer()


@pytest.fixture
def printed():
    return []


@pytest.fixture
def outbox(engine, server, printed):
    client = BotClient("http://chat.example", "secret", transport=server.transport)
    yield Outbox(engine, BOTH, {LOG: LogChannel(printed.append), MATTERMOST: BotChannel(client)})
    client.close()


def message(reason="jets run hot", incident="anomaly-1", stage=Stage.ALARM, **changes):
    return AlertMessage(incident_id=incident, stage=stage, model="anomaly", reason=reason, **changes)


def submit(outbox, text, action, *, key=None, now=NOW, **changes):
    return outbox.submit(message(text, **changes), key=key or text, action=action, now=now)


def log(engine):
    with Session(engine) as session:
        return {record.key: record for record in session.exec(select(NotificationRecord)).all()}


def at(seconds):
    return NOW + timedelta(seconds=seconds)


def test_one_incident_is_one_thread_whose_head_is_edited(outbox, server, engine):
    submit(outbox, "alarm", Action.POST)
    submit(outbox, "approved", Action.REPLY, now=at(1))
    submit(outbox, "resolved", Action.EDIT, now=at(2))
    submit(outbox, "other incident", Action.POST, now=at(3), incident="anomaly-2")

    assert outbox.deliver_due(at(4)) == 4

    first, second = server.threads()
    assert len(first) == 2
    assert "resolved" in first[0]["message"]
    assert first[0]["edits"] == 1
    assert "approved" in first[1]["message"]
    assert "other incident" in second[0]["message"]
    record = log(engine)["approved"]
    assert record.payload["body"]["root_id"] == first[0]["id"] == record.root_id
    assert record.payload["body"]["pending_post_id"] == f"botuser:{record.id}"


def test_a_restart_repeats_nothing(outbox, server, engine):
    submit(outbox, "alarm", Action.POST)
    outbox.deliver_due(NOW)
    client = BotClient("http://chat.example", "secret", transport=server.transport)
    restarted = Outbox(engine, BOTH, {LOG: LogChannel(print), MATTERMOST: BotChannel(client)})

    assert submit(restarted, "alarm", Action.POST) is False
    assert restarted.deliver_due(at(60)) == 0
    assert len(server.posts) == 1
    client.close()


def test_a_lost_answer_does_not_post_twice(outbox, server):
    submit(outbox, "warm up", Action.POST, incident="anomaly-0")
    outbox.deliver_due(NOW)
    submit(outbox, "alarm", Action.POST)
    server.lose_answer = True

    assert outbox.deliver_due(NOW) == 0
    assert outbox.deliver_due(at(3)) == 1
    assert len(server.posts) == 2


def test_a_rate_limit_holds_back_this_incident_and_no_other(outbox, server, engine):
    submit(outbox, "alarm", Action.POST)
    submit(outbox, "approved", Action.REPLY, now=at(1))
    submit(outbox, "elsewhere", Action.POST, now=at(2), incident="anomaly-2")
    server.outages.append(rate_limited(40))

    assert outbox.deliver_due(at(2)) == 1
    assert outbox.deliver_due(at(41)) == 0
    assert log(engine)["alarm"].last_error.startswith("Mattermost at chat.example answered 429")
    assert outbox.deliver_due(at(42.1)) == 2
    assert [len(thread) for thread in server.threads()] == [1, 2]
    assert log(engine)["alarm"].attempts == 2


def test_waits_double_up_to_five_minutes():
    assert [backoff_s(n) for n in (1, 2, 3, 8, 40)] == [2, 4, 8, 256, 300]
    assert backoff_s(1, retry_after_s=17) == 17


def test_a_long_outage_loses_nothing(outbox, server):
    submit(outbox, "alarm", Action.POST)
    server.outages.extend(httpx.Response(503) for _ in range(6))

    sent = [outbox.deliver_due(at(seconds)) for seconds in range(0, 400, 10)]

    assert sum(sent) == 1
    assert len(server.posts) == 1


def test_wrong_configuration_waits_for_a_person_and_says_so(outbox, server, engine):
    server.token = "changed"
    submit(outbox, "alarm", Action.POST)

    outbox.deliver_due(NOW)

    record = log(engine)["alarm"]
    assert record.state == "pending"
    assert "check the token" in record.last_error
    server.token = "secret"
    assert outbox.deliver_due(at(301)) == 1


def test_when_the_head_was_deleted_the_thread_starts_anew(outbox, server):
    submit(outbox, "alarm", Action.POST)
    outbox.deliver_due(NOW)
    server.posts.clear()
    submit(outbox, "approved", Action.REPLY, now=at(1))
    submit(outbox, "verified", Action.REPLY, now=at(2))

    assert outbox.deliver_due(at(3)) == 2
    (thread,) = server.threads()
    assert ["approved" in thread[0]["message"], "verified" in thread[1]["message"]] == [True, True]


def test_a_picture_is_uploaded_with_its_post(outbox, server, tmp_path):
    picture = tmp_path / "ratio.png"
    picture.write_bytes(b"\x89PNG picture")
    outbox.submit(message(), key="alarm", action=Action.POST, now=NOW, image=picture)

    outbox.deliver_due(NOW)

    (post,) = server.posts.values()
    assert post["file_ids"] == ["file1"]


def test_marked_data_never_reaches_the_live_channel(outbox, server):
    submit(outbox, "live", Action.POST)
    submit(outbox, "replayed", Action.POST, incident="anomaly-2", replay=True)
    submit(outbox, "simulated", Action.POST, incident="anomaly-3", simulated=True)

    outbox.deliver_due(NOW)

    by_channel = {post["message"].splitlines()[1]: post["channel_id"] for post in server.posts.values()}
    assert by_channel == {"live": "live-channel", "replayed": "replay-channel", "simulated": "replay-channel"}


@pytest.mark.parametrize(
    ("addresses", "marked", "expected"),
    [
        (BOTH, False, MATTERMOST),
        (Addresses(bot=True, channel_id="live-channel"), True, LOG),
        (Addresses(webhook=True), False, WEBHOOK),
        (Addresses(webhook=True), True, LOG),
        (Addresses(), False, LOG),
    ],
)
def test_a_message_without_a_fitting_channel_stays_in_the_log(addresses, marked, expected):
    assert choose_address(addresses, marked=marked).channel == expected


def test_the_webhook_gets_messages_but_no_edits(engine, server, printed):
    hook = WebhookClient("http://chat.example/hooks/abc", transport=server.transport)
    outbox = Outbox(
        engine, Addresses(webhook=True), {LOG: LogChannel(printed.append), WEBHOOK: WebhookChannel(hook)}
    )
    submit(outbox, "alarm", Action.POST)
    submit(outbox, "approved", Action.REPLY, now=at(1))
    submit(outbox, "resolved", Action.EDIT, now=at(2))

    outbox.deliver_due(at(3))

    assert [text.splitlines()[1] for text in server.webhook_texts] == ["alarm", "approved"]
    assert log(engine)["alarm"].payload["body"].keys() == {"text"}
    hook.close()


def test_without_a_server_the_exact_message_is_kept_and_printed(engine, printed):
    outbox = Outbox(engine, Addresses(), {LOG: LogChannel(printed.append)})
    submit(outbox, "jets run hot", Action.POST, simulated=True)

    assert outbox.deliver_due(NOW) == 1

    record = log(engine)["jets run hot"]
    assert record.state == "delivered"
    assert record.payload["method"] == "POST"
    assert "jets run hot" in record.payload["body"]["message"]
    assert printed == [record.payload["text"]]
    assert "SIMULATED DATA" in printed[0]


OFFERS = (Offer(answer=Answer.ACKNOWLEDGE), Offer(answer=Answer.REJECT, response_id="anomaly-1-r1"))


def test_webhook_and_log_have_no_buttons(engine, server, printed):
    hook = WebhookClient("http://chat.example/hooks/abc", transport=server.transport)
    channels = {LOG: LogChannel(printed.append), WEBHOOK: WebhookChannel(hook)}
    outbox = Outbox(engine, Addresses(webhook=True), channels)
    submit(outbox, "live", Action.POST, offers=OFFERS)
    submit(outbox, "marked", Action.POST, incident="anomaly-2", simulated=True, offers=OFFERS)

    outbox.deliver_due(NOW)

    assert log(engine)["live"].payload["body"].keys() == {"text"}
    assert log(engine)["marked"].payload["body"].keys() == {"channel_id", "message"}
    hook.close()


def test_a_bot_without_buttons_leaves_the_props_of_a_post_alone(outbox, server):
    submit(outbox, "alarm", Action.POST, offers=OFFERS)
    submit(outbox, "resolved", Action.EDIT, now=at(1))

    outbox.deliver_due(at(2))

    (post,) = server.posts.values()
    assert post["edits"] == 1
    assert "props" not in post
