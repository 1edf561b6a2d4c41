import httpx
import pytest

from daemon.alerts.mattermost import (
    BotClient,
    DeliveryDelayed,
    DeliveryNotAllowed,
    DeliveryRefused,
    WebhookClient,
)
from tests.support.mattermost import MattermostServer, rate_limited, serving


@pytest.fixture
def server():
    return MattermostServer()


@pytest.fixture
def bot(server):
    with BotClient("http://chat.example", "secret", transport=server.transport) as client:
        yield client


def test_posts_replies_and_edits_over_a_real_socket(server):
    with serving(server) as url, BotClient(url, "secret") as bot:
        head = bot.create_post({"channel_id": "live-channel", "message": "alarm"})
        bot.create_post({"channel_id": "live-channel", "message": "approved", "root_id": head})
        bot.patch_post(head, {"message": "resolved"})
        file_id = bot.upload_png("live-channel", "ratio.png", b"\x89PNG picture")

    (thread,) = server.threads()
    assert [post["message"] for post in thread] == ["resolved", "approved"]
    assert server.files[file_id].startswith(b"\x89PNG picture")


def test_a_repeated_post_with_the_same_pending_id_is_one_post(server, bot):
    body = {"channel_id": "live-channel", "message": "alarm", "pending_post_id": f"{bot.user_id()}:1"}

    assert bot.create_post(body) == bot.create_post(body)
    assert len(server.posts) == 1


def test_a_busy_server_says_how_long_to_wait(server, bot):
    server.outages.append(rate_limited(17))

    with pytest.raises(DeliveryDelayed) as caught:
        bot.create_post({"channel_id": "live-channel", "message": "alarm"})
    assert caught.value.retry_after_s == 17


@pytest.mark.parametrize(
    "outage", [httpx.Response(502), httpx.ConnectError("refused"), httpx.ReadTimeout("late")]
)
def test_an_outage_is_worth_another_try(server, bot, outage):
    server.outages.append(outage)

    with pytest.raises(DeliveryDelayed, match=r"chat\.example"):
        bot.create_post({"channel_id": "live-channel", "message": "alarm"})


def test_a_wrong_token_or_channel_names_the_configuration(server, bot):
    with pytest.raises(DeliveryNotAllowed, match="channel id"):
        bot.create_post({"channel_id": "elsewhere", "message": "alarm"})
    server.token = "another"
    with pytest.raises(DeliveryNotAllowed, match="check the token"):
        bot.create_post({"channel_id": "live-channel", "message": "alarm"})


def test_a_refused_message_says_why(bot):
    with pytest.raises(DeliveryRefused, match="RootId") as caught:
        bot.create_post({"channel_id": "live-channel", "message": "x", "root_id": "gone"})
    assert caught.value.reason_id == "api.post.create_post.root_id.app_error"


def test_something_that_is_no_mattermost_is_noticed(server, bot):
    server.outages.append(httpx.Response(200, text="<html>Welcome</html>"))

    with pytest.raises(DeliveryDelayed, match="no JSON"):
        bot.create_post({"channel_id": "live-channel", "message": "alarm"})


def test_no_error_tells_the_secret_of_the_webhook(server):
    server.outages.append(httpx.ConnectError("refused"))
    hook = WebhookClient("http://chat.example/hooks/abc", transport=server.transport)

    with pytest.raises(DeliveryDelayed) as caught:
        hook.send({"text": "alarm"})
    assert "abc" not in str(caught.value)
    hook.send({"text": "alarm"})
    hook.close()
    assert server.webhook_texts == ["alarm"]


def test_an_address_without_scheme_is_refused():
    with pytest.raises(DeliveryNotAllowed, match="http"):
        BotClient("chat.example", "secret")


def button(**changes):
    action = {
        "id": "reject",
        "type": "button",
        "name": "Reject",
        "style": "danger",
        "integration": {"url": "http://lumiwatch.example/chat", "context": {"act": "reject"}},
    }
    return {"attachments": [{"fallback": "Answers", "actions": [action | changes]}]}


def test_a_post_with_a_button_is_taken(server, bot):
    body = {"channel_id": "live-channel", "message": "alarm", "props": button()}

    assert list(server.buttons(bot.create_post(body))) == ["Reject"]


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "prescale_out"},
        {"id": ""},
        {"name": ""},
        {"type": "link"},
        {"style": "red"},
        {"integration": {"url": "/chat", "context": {}}},
        {"integration": None},
        {"colour": "red"},
    ],
)
def test_the_stand_in_refuses_a_button_that_a_server_refuses(bot, changes):
    with pytest.raises(DeliveryRefused):
        bot.create_post({"channel_id": "live-channel", "message": "alarm", "props": button(**changes)})


DIALOG = {
    "callback_id": "anomaly-1-r1",
    "title": "Approve",
    "elements": [{"display_name": "Comment", "name": "comment", "type": "textarea"}],
    "state": "{}",
}


def test_a_dialog_opens_once_for_a_trigger(server, bot):
    server.triggers["t1"] = "ada"

    bot.open_dialog("t1", "http://lumiwatch.example/chat", DIALOG)

    assert server.forms["ada"]["dialog"] == DIALOG
    with pytest.raises(DeliveryRefused, match="expired"):
        bot.open_dialog("t1", "http://lumiwatch.example/chat", DIALOG)


@pytest.mark.parametrize(
    "changes",
    [
        {"title": "A title that is longer than it may be"},
        {"elements": [{"display_name": "x" * 25, "name": "comment", "type": "textarea"}]},
        {"elements": [{"display_name": "S", "name": "s", "type": "select", "options": [], "default": "a"}]},
    ],
)
def test_the_stand_in_refuses_a_dialog_that_a_server_refuses(server, bot, changes):
    server.triggers["t1"] = "ada"

    with pytest.raises(DeliveryRefused):
        bot.open_dialog("t1", "http://lumiwatch.example/chat", DIALOG | changes)
