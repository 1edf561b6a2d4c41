"""Metrics by Prometheus' conventions, checked by its own tool; the rules fire when they must,only then."""

import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from daemon.journal.happenings import record_event
from daemon.process.readiness import database_check
from daemon.process.site_metrics import SiteMetrics
from daemon.site.current_site import CurrentSite
from daemon.site.reload import Reloader
from daemon.site.settings import load_site
from daemon.store.database import transaction
from daemon.store.records import NotificationRecord, NotificationState
from tests.support.access import make_services, served
from tests.support.daemon import copy_site
from tests.support.daemon_process import daemon_process

RULES = Path(__file__).parents[3] / "deploy" / "prometheus"


def promtool(*arguments, text=None, folder=None):
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (deploy/system-packages.sh promtool)")
    return subprocess.run(
        ["promtool", *arguments], input=text, text=True, capture_output=True, check=False, cwd=folder
    )


@pytest.fixture(scope="module")
def scraped(tmp_path_factory):
    """Return what a daemon that has just started answers on /metrics."""
    folder = tmp_path_factory.mktemp("scraped")
    with daemon_process(load_site(copy_site(folder)), folder / "log") as daemon:
        answer = daemon.client.get("/metrics")
    assert answer.status_code == 200
    return answer.text


def test_promtool_finds_nothing_to_mend(scraped):
    done = promtool("check", "metrics", text=scraped)

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_names_have_the_prefix_and_a_counter_says_so(scraped):
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", scraped, re.MULTILINE))

    assert kinds
    for name, kind in kinds.items():
        assert name.startswith("lumiwatch_"), name
        assert (kind == "counter") == name.endswith("_total"), name
        assert not re.search(r"_(ms|millis|minutes|hours|kb|mb|percent)(_|$)", name), name


def test_what_is_counted_is_there_from_the_start(scraped):
    for line in (
        'lumiwatch_contained_errors_total{where="consumer"} 0.0',
        'lumiwatch_ready{check="database"} 1.0',
        'lumiwatch_ready{check="broker"} 0.0',
        "lumiwatch_notifications_waiting 0.0",
        "lumiwatch_notifications_oldest_waiting_seconds 0.0",
        "lumiwatch_config_last_reload_successful 1.0",
    ):
        assert line in scraped.splitlines(), line
    assert re.search(r"^lumiwatch_database_size_bytes [1-9]", scraped, re.MULTILINE)


def test_every_metric_of_the_rules_is_exported(scraped):
    rules = (RULES / "lumiwatch.rules.yml").read_text()
    used = set(re.findall(r"lumiwatch_[a-z_]+", " ".join(re.findall(r"expr: (.*)", rules))))

    assert used
    assert used <= set(re.findall(r"^# TYPE (\S+)", scraped, re.MULTILINE))


def test_what_waits_is_told(site, engine, clock):
    registry = CollectorRegistry()
    checks = {"database": lambda: None, "broker": lambda: "away"}
    registry.register(SiteMetrics(engine, checks, Reloader(engine, CurrentSite(site), clock), clock))
    with transaction(engine) as session:
        record_event(session, "site.tested", "t", now=clock())
        for key, age_s in (("a", 90), ("b", 10)):
            session.add(
                NotificationRecord(
                    key=key, channel="log", action="post", payload={}, state=NotificationState.PENDING,
                    created_at=clock() - timedelta(seconds=age_s),
                )
            )  # fmt: skip

    said = generate_latest(registry).decode().splitlines()

    assert "lumiwatch_notifications_waiting 2.0" in said
    assert "lumiwatch_notifications_oldest_waiting_seconds 90.0" in said
    assert "lumiwatch_events_unpublished 1.0" in said
    assert 'lumiwatch_ready{check="broker"} 0.0' in said


def test_metrics_are_served_while_the_database_is_away(site, engine, clock):
    services = make_services(engine, site, clock)
    services.metrics.registry.register(
        SiteMetrics(
            engine,
            {"database": database_check(engine)},
            Reloader(engine, CurrentSite(site), clock),
            clock,
        )
    )
    engine.dispose()
    file = Path(site.database_url.removeprefix("sqlite:///"))
    file.rename(file.with_name("away"))
    file.mkdir()
    with served(services) as service, service.client() as client:
        said = client.get("/metrics").text.splitlines()

    assert 'lumiwatch_ready{check="database"} 0.0' in said
    assert 'lumiwatch_contained_errors_total{where="api"} 1.0' in said


@pytest.mark.parametrize(
    ("act", "file"), [("check", "lumiwatch.rules.yml"), ("test", "lumiwatch.rules.test.yml")]
)
def test_the_rules(act, file):
    done = promtool(act, "rules", file, folder=RULES)

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_is_tested():
    rules = set(re.findall(r"alert: (\w+)", (RULES / "lumiwatch.rules.yml").read_text()))
    tests = (RULES / "lumiwatch.rules.test.yml").read_text()

    fires = set(re.findall(r'alertname="(\w+)"\}', tests)) | {"LumiwatchDown"}
    quiet = set(re.findall(r"eval_time: 25m, alertname: (\w+)", tests))
    assert fires == quiet == rules
