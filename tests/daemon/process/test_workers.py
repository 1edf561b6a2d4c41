"""Workers that are behind or silent are said, in words and as metrics."""

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy.engine import Engine

from daemon.process.metrics import Metrics
from daemon.process.workers import WorkerMetrics, workers
from streams.integrity import judge_integrity
from streams.judging.verdict import State
from streams.store.database import write_session
from streams.store.records import WorkerRow
from streams.worker_status import ModelProgress, WorkerReport
from tests.support.daemon import make_verdict

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def tell(engine: Engine):
    """Return a function that writes a worker's report."""

    def write(name="worker", *, age_s=1.0, **changes):
        content = {
            "worker": name,
            "host": "trigger-pc",
            "pid": 42,
            "started_at": NOW - timedelta(hours=1),
            "seen_at": NOW - timedelta(seconds=age_s),
            "lag_messages": 0,
            "lag_s": 0.0,
            "events_per_s": 120_000.4,
            "rss_bytes": 300 << 20,
            "counters": {"batches": 17, "dead_letters": 2, "dead_letters.lumiwatch.batches": 2},
            "models": {"anomaly": ModelProgress(run=1, lumisection=7, lag_s=3.5)},
        }
        report = WorkerReport(**(content | changes))
        with write_session(engine, lock="test") as session:
            session.merge(WorkerRow(name=name, seen_at=report.seen_at, report=report.model_dump_json()))

    return write


def test_a_worker_that_cannot_keep_up_says_by_how_much(engine: Engine, tell):
    tell(lag_messages=12_400, lag_s=38.2)
    (view,) = workers(engine, NOW)
    assert view.behind
    assert view.words == "Worker 'worker' is 12,400 messages (38 s, 1.6 lumisections) behind"


def test_a_worker_with_a_little_work_at_hand_keeps_up(engine: Engine, tell):
    tell(lag_messages=12, lag_s=0.4)
    (view,) = workers(engine, NOW)
    assert not view.behind
    assert view.words == "Worker 'worker' keeps up"
    assert view.lumisections == {"anomaly": 7}


def test_a_silent_worker_is_stale_whatever_it_said_last(engine: Engine, tell):
    tell("one", age_s=9.0)
    tell("two", age_s=300.0, lag_messages=5, lag_s=50.0)
    one, two = workers(engine, NOW)
    assert not one.stale
    assert (two.stale, two.behind) == (True, False)
    assert two.words == "Worker 'two' has said nothing for 5 min"


def test_metrics_follow_the_reports(engine: Engine, tell):
    registry = CollectorRegistry()
    registry.register(WorkerMetrics(engine, ["anomaly", "jets"], lambda: NOW))
    assert b"# TYPE lumiwatch_worker_lag_messages gauge" in generate_latest(registry)

    tell(lag_messages=12_400, lag_s=38.2)
    tell("gone", age_s=60.0, models={"made-up": ModelProgress(run=1, lumisection=1)})
    text = generate_latest(registry).decode()

    for line in (
        'lumiwatch_worker_lag_messages{worker="worker"} 12400.0',
        'lumiwatch_worker_lag_seconds{worker="worker"} 38.2',
        'lumiwatch_worker_up{worker="worker"} 1.0',
        'lumiwatch_worker_up{worker="gone"} 0.0',
        'lumiwatch_worker_batches_total{worker="worker"} 17.0',
        'lumiwatch_worker_dead_letters_total{topic="lumiwatch.batches",worker="worker"} 2.0',
        'lumiwatch_worker_dead_letters_total{topic="lumiwatch.summaries",worker="worker"} 0.0',
        'lumiwatch_worker_late_total{worker="worker"} 0.0',  # there from the start
        'lumiwatch_worker_recorder_dropped_total{worker="worker"} 0.0',
        'lumiwatch_worker_model_lag_seconds{model="anomaly",worker="worker"} 3.5',
        'lumiwatch_worker_model_lag_seconds{model="jets",worker="worker"} 0.0',
    ):
        assert line in text, line
    assert "made-up" not in text


def test_an_alarm_without_its_story_is_counted():
    metrics = Metrics(["anomaly"])
    metrics.take_verdict(make_verdict(7, State.ALARM, story="The jets have lost a per cent."))
    metrics.take_verdict(make_verdict(8, State.GOOD))
    assert 'lumiwatch_verdicts_without_story_total{model="anomaly"} 0.0' in metrics.render().decode()
    metrics.take_verdict(make_verdict(9, State.WARNING))
    assert 'lumiwatch_verdicts_without_story_total{model="anomaly"} 1.0' in metrics.render().decode()


def test_late_verdicts_and_mismatches_are_counted_once():
    metrics = Metrics(["anomaly"])
    assert 'lumiwatch_verdicts_late_total{model="anomaly"} 0.0' in metrics.render().decode()
    found = {"late": True, "delay_s": 200.0, "integrity": judge_integrity(2000, 12)}
    metrics.take_verdict(make_verdict(7, State.ALARM, **found))
    metrics.take_verdict(make_verdict(7, State.ALARM, revision=2, **found))
    text = metrics.render().decode()
    assert 'lumiwatch_verdicts_late_total{model="anomaly"} 2.0' in text
    assert 'lumiwatch_verdict_delay_seconds{model="anomaly"} 200.0' in text
    assert 'lumiwatch_integrity_events_checked_total{model="anomaly"} 2000.0' in text
    assert 'lumiwatch_integrity_events_mismatched_total{model="anomaly"} 12.0' in text
