"""A broker with room for few lumisections, and a run of many: it forgets again and again, losing nothing."""

import time
from pathlib import Path

import numpy as np
import pytest
import skhep_testdata

from streams import topics
from streams.broker.bounded import BoundedBroker, resident_bytes
from streams.broker.embedded import ensure_topics
from streams.contracts.contract import load_contract
from streams.conversion.convert import convert
from streams.events.replay import Replayer, ReplaySettings
from streams.store.database import open_engine
from streams.store.history import closed_windows
from streams.store.records import create_tables
from streams.worker import WorkerSettings, start_worker
from tests.support.streams import MODEL, RUN, Detector, StandInScore

CONTRACT_PATH = Path(__file__).parents[2] / "deploy" / "site" / "models" / "anomaly" / "contract.toml"
LIMIT = 16 << 20
EVENTS = 20_000
LUMISECTIONS = 40
SOURCES, BATCHES = 2, 3


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    contract = load_contract(CONTRACT_PATH)
    dataset = convert(
        [Path(skhep_testdata.data_path("uproot-HZZ.root"))],
        contract,
        tmp_path_factory.mktemp("hzz") / "hzz.npz",
    )
    return Detector(dataset, contract, StandInScore(dataset))


@pytest.mark.slow
def test_a_broker_that_forgets_often_loses_nothing_and_counts_nothing_twice(detector, tmp_path):
    # given a bounded broker, a worker that is killed, and several times the bound to send
    said = []
    processes = []
    with BoundedBroker(
        log=tmp_path / "broker.log", group="lumiwatch-worker", limit_bytes=LIMIT, say=said.append
    ) as broker:
        ensure_topics(broker.bootstrap, {topics.BATCHES: 2, topics.SUMMARIES: 2})
        settings = WorkerSettings(
            bootstrap=broker.bootstrap,
            database_url=f"sqlite:///{tmp_path}/site.db",
            models={MODEL: {"contract": CONTRACT_PATH}},
            state_dir=tmp_path / "worker",
            allowed_lateness_s=120.0,
            instance="worker-0",
        )
        engine = open_engine(settings.database_url)
        create_tables(engine)
        largest = 0

        def start():
            processes.append(start_worker(settings, log=tmp_path / "worker.log"))

        def watch(lumisection):
            nonlocal largest
            largest = max(largest, resident_bytes(broker.process_id))
            if lumisection == LUMISECTIONS // 2:
                processes[-1].kill()
                processes[-1].wait()
                start()

        replay = ReplaySettings(
            model=MODEL,
            run=RUN,
            first=1,
            last=LUMISECTIONS,
            events_per_lumisection=EVENTS,
            batches_per_lumisection=BATCHES,
            sources=SOURCES,
            lookahead=1,
        )
        try:
            start()
            Replayer(broker.bootstrap, detector.dataset, detector.contract, replay, detector.firmware).run(
                progress=watch
            )
            deadline = time.monotonic() + 60
            while len(closed_windows(engine, MODEL)) < LUMISECTIONS:
                assert time.monotonic() < deadline, "the worker did not get there in time"
                time.sleep(0.1)
        finally:
            for process in processes:
                process.kill()
                process.wait()

        # then the broker was emptied several times and stayed small
        assert broker.status.rolls >= 3, broker.status
        assert largest < LIMIT + (32 << 20)

    # and every window holds exactly what was sent
    windows = closed_windows(engine, MODEL)
    assert [window.summary.lumisection for window in windows] == list(range(1, LUMISECTIONS + 1))
    for window in windows:
        direct = detector.summary(window.summary.lumisection, n_events=EVENTS, seed=replay.seed)
        assert window.complete
        assert (window.summary.n_events, window.summary.n_accept) == (EVENTS, direct.n_accept)
        assert np.array_equal(window.summary.inputs, direct.inputs)
        assert np.array_equal(window.summary.score, direct.score)
    engine.dispose()
