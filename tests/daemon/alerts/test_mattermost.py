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
