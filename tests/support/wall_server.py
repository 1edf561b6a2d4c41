"""A daemon with many models for browser tests: real pages and database; verdicts are written, not judged.

Usage: python -m tests.support.wall_server SITE_FOLDER [--models N] [--lumisections N] [--pace SECONDS]
Copies the example model, gives every copy so many verdicts, some in other states than good, and prints
`ready URL` when it serves. No response runs.
"""

# ruff: noqa: T201 - a program prints

from __future__ import annotations

import argparse
import itertools
import shutil
import socket
import threading
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import uvicorn
from fastapi import FastAPI
from sqlalchemy.engine import Engine
from sqlmodel import Session

from daemon.api import application
from daemon.console.app import register_console
from daemon.incidents.intake import take_verdict
from daemon.operations import utc_now
from daemon.site.settings import Site, load_site
from daemon.store.database import open_database
from daemon.store.records import VerdictRecord
from streams.judging.verdict import State, Verdict
from streams.store.records import WorkerRow
from streams.worker_status import WorkerReport
from tests.support.access import make_services
from tests.support.daemon import make_verdict

RUN = 362439
LUMISECTION_S = 23.3104
NAMES = ("anomaly", "bjet-tag", "dijet-mass", "tau-nn", "met-tail", "muon-pt", "photon-iso", "topo-score")
UNUSUAL = {1: State.WARNING, 3: State.ALARM, 4: State.INSUFFICIENT, 6: State.NOT_JUDGED}
"""States of the latest verdicts of some models, by their place; all others are good."""


def names(count: int) -> list[str]:
    """Name so many models."""
    series = itertools.count(2)
    more = (f"{name}-{number}" for number in series for name in NAMES)
    return [*NAMES, *itertools.islice(more, max(count - len(NAMES), 0))][:count]


def add_models(site_folder: Path, count: int) -> list[str]:
    """Give a copy of the example site so many models, all like the example."""
    example = site_folder / "models" / "anomaly"
    for name in names(count)[1:]:
        folder = example.with_name(name)
        shutil.copytree(example, folder)
        file = folder / "model.toml"
        file.write_text(file.read_text().replace('name = "anomaly"', f'name = "{name}"', 1))
    return names(count)


def verdict_of(model: str, place: int, lumisection: int, *, last: int) -> Verdict:
    """Make a verdict; the unusual states begin 12 lumisections before the `last`."""
    state = UNUSUAL.get(place, State.GOOD) if lumisection > last - 12 else State.GOOD
    deviation = float(np.random.default_rng((place, lumisection)).normal(0, 0.03))
    deviation += {State.WARNING: 0.07, State.ALARM: 0.19}.get(state, 0.0)
    rate = f"accept rate {10 * (1 + deviation):.1f} % instead of 10.0 %."
    reason = {
        State.WARNING: f"Jet gain +0.4 %; {rate}",
        State.ALARM: f"Jet gain +1.2 %; {rate}",
        State.INSUFFICIENT: "1,204 events, 2,000 are needed.",
        State.NOT_JUDGED: "Not in stable beams.",
    }
    return make_verdict(
        lumisection,
        state,
        model=model,
        run=RUN,
        reason=reason.get(state, "All within thresholds."),
        accept_rate=0.1 * (1 + deviation),
        rate_deviation=deviation,
        simulated=False,
        delay_s=2.0,
    )


def fill(engine: Engine, site: Site, lumisections: int, now: datetime) -> None:
    """Write verdicts of every model, one lumisection apart; the unusual ones through the real intake."""
    with Session(engine) as session:
        for place, model in enumerate(names(len(site.models))):
            for lumisection in range(1, lumisections + 1):
                verdict = verdict_of(model, place, lumisection, last=lumisections)
                at = now - timedelta(seconds=LUMISECTION_S * (lumisections - lumisection))
                if verdict.state is not State.ALARM:
                    session.add(record_of(verdict, at))
        session.commit()
    for place, model in enumerate(names(len(site.models))):
        for lumisection in range(max(lumisections - 11, 1), lumisections + 1):
            verdict = verdict_of(model, place, lumisection, last=lumisections)
            if verdict.state is State.ALARM:
                at = now - timedelta(seconds=LUMISECTION_S * (lumisections - lumisection))
                take_verdict(engine, site, verdict, now=at)


def add_worker(engine: Engine, now: datetime) -> None:
    """Write the report of a worker that keeps up for an hour."""
    report = WorkerReport(
        worker="w1",
        host="here",
        pid=1,
        started_at=now,
        seen_at=now + timedelta(hours=1),
        lag_messages=0,
        lag_s=0.0,
        events_per_s=0.0,
        rss_bytes=0,
    )
    with Session(engine) as session:
        session.add(WorkerRow(name="w1", seen_at=report.seen_at, report=report.model_dump_json()))
        session.commit()


def record_of(verdict: Verdict, at: datetime) -> VerdictRecord:
    """Make the row of a verdict."""
    return VerdictRecord(
        id=verdict.id,
        model=verdict.model,
        run=verdict.run,
        lumisection=verdict.lumisection,
        state=verdict.state.value,
        package=verdict.package,
        simulated=verdict.simulated,
        received_at=at,
        payload=verdict.model_dump(mode="json"),
    )


def _go_on(engine: Engine, site: Site, last: int, pace_s: float, stopping: threading.Event) -> None:
    for lumisection in itertools.count(last + 1) if pace_s > 0 else ():
        if stopping.wait(pace_s):
            return
        for place, model in enumerate(names(len(site.models))):
            take_verdict(engine, site, verdict_of(model, place, lumisection, last=last), now=utc_now())


def main() -> None:
    """Serve a site with many models until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("site", type=Path)
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--lumisections", type=int, default=500)
    parser.add_argument("--pace", type=float, default=0.0, help="seconds per lumisection afterwards; 0: none")
    arguments = parser.parse_args()
    add_models(arguments.site, arguments.models)
    site = load_site(arguments.site)
    engine = open_database(site.database_url)
    app, stopping = FastAPI(), threading.Event()
    services = make_services(engine, site, utc_now)
    application.install(app, services)
    register_console(app, services)
    add_worker(engine, utc_now())
    fill(engine, site, arguments.lumisections, utc_now())
    listener = socket.create_server(("127.0.0.1", site.settings.console.port))
    threading.Thread(
        target=_go_on, args=(engine, site, arguments.lumisections, arguments.pace, stopping), daemon=True
    ).start()
    print(f"ready {site.console_url(listener.getsockname()[1])}", flush=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    server.run(sockets=[listener])
    stopping.set()


if __name__ == "__main__":
    main()
