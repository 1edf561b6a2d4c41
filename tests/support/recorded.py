"""A site that has recorded runs of a generated detector, through the real windows."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from daemon.site.settings import load_site
from daemon.store.database import open_database
from streams.backtest.generator import GeneratedDetector
from streams.counting.summary import summarise
from streams.events.batch import digest, encode_batch
from streams.judging.judge import MonitoredModel
from streams.store.windows import WindowStore

MODEL = "anomaly"
N_EVENTS = 2500
EACH = 16


def record_runs(folder, runs, *, each=EACH, now=None, changes=None):
    """Record lumisections of runs in a site's database, and close their windows.

    `changes`: (run, lumisection) -> what differs: fields of its conditions, of its batch (``package``), or
    ``n_events``.
    """
    site = load_site(folder)
    site.state_dir.mkdir(parents=True, exist_ok=True)
    engine = open_database(site.database_url)
    contract = site.models[MODEL].contract
    detector = GeneratedDetector(
        contract, 7, pileup_start=44.0, pileup_end=36.0, lumisections_per_fill=each, model=MODEL
    )
    store = WindowStore(engine, models={MODEL: MonitoredModel(contract)})
    now = now or datetime.now(UTC)
    for run in runs:
        for lumisection in range(1, each + 1):
            different = dict((changes or {}).get((run, lumisection), {}))
            batch = detector.batch(run, lumisection, different.pop("n_events", N_EVENTS))
            batch = replace(batch, package=different.pop("package", batch.package))
            conditions = detector.conditions(run, lumisection)
            store.fold_summaries([summarise(batch, contract, digest(encode_batch(batch)))], now)
            store.record_conditions(conditions.model_copy(update=different), now)
            store.close_ready(MODEL, run, now)
    store.sweep(now + timedelta(minutes=10))
    return engine
