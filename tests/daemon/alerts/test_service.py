import time

import pytest

from daemon.alerts.service import build_alerts
from daemon.errors import SettingsError
from daemon.incidents.intake import take_verdict
from daemon.operations import utc_now
from daemon.site.settings import load_site
from tests.support.daemon import make_verdict
from tests.support.mattermost import MattermostServer, serving


def with_chat(site_folder, lines):
    file = site_folder / "lumiwatch.toml"
    file.write_text(file.read_text() + "\n[mattermost]\n" + lines)
    return load_site(site_folder)


def wait_for(condition, seconds=15.0):
    ends = time.monotonic() + seconds
    while not condition() and time.monotonic() < ends:
        time.sleep(0.05)
    return condition()


def test_an_alarm_reaches_the_chat_over_a_real_socket(site_folder, engine):
    server = MattermostServer()
    (site_folder / "token").write_text("secret\n")
    with serving(server) as url:
        site = with_chat(
            site_folder,
            f'url = "{url}"\ntoken_file = "token"\nchannel_id = "live-channel"\n'
            'replay_channel_id = "replay-channel"\n',
        )
        alerts = build_alerts(engine, site)
        alerts.start()
        take_verdict(engine, site, make_verdict(62, simulated=False), now=utc_now())
        arrived = wait_for(lambda: len(server.posts) == 1)
        alerts.stop()

    assert arrived
    (post,) = server.posts.values()
    assert post["channel_id"] == "live-channel"
    assert "SIMULATED" not in post["message"]


def test_a_missing_secret_names_file_and_key(site_folder, engine):
    site = with_chat(site_folder, 'url = "http://chat"\ntoken_file = "nowhere"\nchannel_id = "x"\n')

    with pytest.raises(SettingsError, match=r"nowhere.*mattermost\.token_file"):
        build_alerts(engine, site)


def test_an_empty_secret_is_refused(site_folder, engine):
    (site_folder / "hook").write_text("\n")
    site = with_chat(site_folder, 'webhook_url_file = "hook"\n')

    with pytest.raises(SettingsError, match=r"is empty; key mattermost\.webhook_url_file"):
        build_alerts(engine, site)
