"""A daemon for browser tests: real pages, database, stream judgement, durable responses; a fake workshop.

Usage: python -m tests.support.console_server SITE_FOLDER [--quiet-after LS] [--pace SECONDS]
Data are resampled simulated events with a jet gain of 1.10 from LS 41 on; the "firmware" is a sum of jet pt.
Prints `ready URL` when it serves, and goes on with lumisections until SIGTERM; on a site that has verdicts,
from there.
"""

# ruff: noqa: ARG002, T201 - the fake workshop keeps the signatures of the real one; a program prints

from __future__ import annotations

import argparse
import functools
import hashlib
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import skhep_testdata
import uvicorn
from fastapi import FastAPI
from sqlalchemy.engine import Engine

from daemon.access.control import AccessControl
from daemon.access.logins import Logins
from daemon.access.sign_on import Entrance
from daemon.alerts.service import build_alerts
from daemon.api import application
from daemon.console.app import register_console
from daemon.incidents.intake import take_verdict
from daemon.journal.lineage import Artefact, add_edge
from daemon.operations import Operations, utc_now
from daemon.process.metrics import Metrics
from daemon.process.services import Services
from daemon.responses.durable import DurableResponses
from daemon.responses.procedure import ResponseProcedure
from daemon.responses.scrubbing import LastScrub
from daemon.responses.workshop import Applied, Benched, Built, Progress, Retrained, Task
from daemon.site.current_site import CurrentSite
from daemon.site.reload import Reloader
from daemon.site.settings import Site, load_site
from daemon.store import queries
from daemon.store.database import open_database, transaction
from daemon.store.views import BoardStatus
from hw.records import BoardOperationRecord, PackageRecord
from hw.report import BenchReport, StageReport
from streams.conditions import Conditions
from streams.conversion.convert import convert
from streams.counting.summary import Summary, summarise
from streams.effects.effect import parse_effect
from streams.events.batch import Batch, digest, encode_batch
from streams.events.dataset import Dataset
from streams.events.replay import lumisection_events
from streams.judging.judge import MonitoredModel
from streams.judging.reference import build_reference
from streams.judging.reference_store import register_reference
from streams.store.windows import WindowStore

MODEL, RUN = "anomaly", 362439
DRIFT = parse_effect("jet_gain=1.10@LS41")
EVENTS = 4000


def _id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


OLD, NEW = _id("old"), _id("new")


class Source:
    """Makes summaries of lumisections; the package on the board decides the score."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.contract = site.models[MODEL].contract
        root = skhep_testdata.data_path("uproot-HZZ.root")
        self.dataset: Dataset = convert([root], self.contract, folder / "hzz.npz")
        self.package = OLD
        self._jets = [self.contract.input_index(f"jet[{index}].pt") for index in range(4)]
        self._threshold = int(np.quantile(self._scores(self._events(0, 20_000), OLD), 0.90))

    def _events(self, lumisection: int, count: int, seed: int = 3) -> Any:
        return lumisection_events(
            self.dataset,
            self.contract,
            run=RUN,
            lumisection=lumisection,
            n_events=count,
            effects=(DRIFT,),
            seed=seed,
        )

    def _scores(self, inputs: Any, package: str) -> Any:
        total = inputs[:, self._jets].sum(axis=1).astype(np.float64)
        return (total * 100 / (1.10 if package == NEW else 1.0)).astype(np.int32)

    def summary(self, lumisection: int, package: str | None = None, seed: int = 3) -> Summary:
        """Count one lumisection of one batch."""
        package = package or self.package
        inputs = np.asfortranarray(self._events(lumisection, EVENTS, seed))
        score = self._scores(inputs, package)
        batch = Batch(
            model=MODEL,
            contract_name=self.contract.name,
            contract_version=self.contract.version,
            contract_hash=self.contract.hash,
            run=RUN,
            lumisection=lumisection,
            source="replay-0",
            sequence=lumisection,
            package=package,
            simulated=True,
            inputs=inputs,
            score=score,
            accept=score > self._threshold,
            input_names=tuple(self.contract.input_names),
        )
        return summarise(batch, self.contract, digest(encode_batch(batch)))


class FakeWorkshop:
    """Fake workshop: takes a little time for each step and changes the package of the source."""

    def __init__(self, source: Source, engine: Engine, step_s: float) -> None:
        self._source = source
        self._engine = engine
        self._step_s = step_s

    def _work(self, progress: Progress, words: Sequence[str], log: Path | None = None) -> None:
        for number, word in enumerate(words):
            if log is not None:
                log.parent.mkdir(parents=True, exist_ok=True)
                with log.open("a") as file:
                    file.write(f"\x1b[32m{word}\x1b[0m\n<b>{number}</b>\n")
            progress(number / len(words), word)
            time.sleep(self._step_s / len(words))

    def package_on_board(self, model: str) -> str:
        return self._source.package

    def retrain(self, task: Task, progress: Progress) -> Retrained:
        self._work(
            progress,
            ["select events", "estimate the jet gain: 1.098", "evaluate 5 strategies"],
            task.folder / "retrain" / "job.log",
        )
        return Retrained(
            training_id=_id("training"),
            strategy=task.strategies[0],
            candidate=task.folder / "candidate.npz",
            dataset_ids=(_id("recent"),),
            summary=f"{task.strategies[0]} passes: accept rate 9.97 % (10.01 % expected), KS D 0.011.",
        )

    def build(self, task: Task, retrained: Retrained, progress: Progress) -> Built:
        self._work(progress, ["write weights", "sign"], task.folder / "build" / "job.log")
        with transaction(self._engine) as session:
            session.merge(_package_record(NEW, task.folder, bench_passed=True))
            package, training = Artefact("package", NEW), Artefact("training", _id("training"))
            for child, parent, relation in (
                (package, training, "made from"),
                (package, Artefact("package", OLD), "successor of"),
                (training, Artefact("dataset", _id("recent")), "trained on"),
                (training, Artefact("dataset", self._source.dataset.id), "trained on"),
                (training, Artefact("response", task.response_id), "asked for by"),
                (
                    Artefact("dataset", self._source.dataset.id),
                    Artefact("root_file", "uproot-HZZ.root"),
                    "converted",
                ),
            ):
                add_edge(session, child, parent, relation, now=utc_now())
        return Built(
            package_id=NEW,
            path=task.folder / "candidate.lwpkg",
            plan_kind="weights",
            plan_reason="only input.scale and input.offset differ",
            summary="Weights only: 30 words in input.scale and input.offset, image unchanged.",
        )

    def bench(self, task: Task, built: Built, progress: Progress) -> Benched:
        self._work(progress, ["emulator", "hls4ml C simulation"])
        report = _bench_report(built.package_id)
        return Benched(
            passed=True,
            summary="0 mismatching bits in 20,000 events.",
            report=report.model_dump(mode="json"),
        )

    def apply(self, task: Task, built: Built, progress: Progress) -> Applied:
        self._work(progress, ["load the inactive bank", "read back", "switch"])
        self._source.package = NEW
        with transaction(self._engine) as session:
            session.add(_operation(built, task.decided_by))
        return Applied(
            package_id=NEW,
            previous_package=OLD,
            summary="Switched at a batch boundary; 16 golden vectors agree; dead time 0.2 ms.",
        )

    def roll_back(self, task: Task, progress: Progress) -> str:
        self._source.package = OLD
        return "The previous package runs again."

    def successor_reference(
        self, task: Task, package_id: str, run: int, first_lumisection: int, last_lumisection: int
    ) -> str:
        return _id("successor")


def _package_record(identity: str, folder: Path, *, bench_passed: bool) -> PackageRecord:
    return PackageRecord(
        id=identity,
        name=MODEL,
        version="1",
        path=str(folder / f"{identity}.lwpkg"),
        structure_hash=_id("structure"),
        weights_hash=_id(identity),
        contract_hash=_id("contract"),
        toolchain="hls4ml",
        toolchain_version="1.3.0",
        bench_passed=bench_passed,
        recorded_at=utc_now(),
    )


def _bench_report(package: str) -> BenchReport:
    def stage(name: str, speed: float) -> StageReport:
        return StageReport(
            name=name,
            binding=True,
            events=20_000,
            mismatching_events=0,
            mismatching_bits=0,
            largest_error_lsb=0.0,
            events_per_s=speed,
        )

    return BenchReport(
        model_name=MODEL,
        structure_hash=_id("structure"),
        weights_hash=_id(package),
        inputs_hash=_id("inputs"),
        stages=(stage("emulator", 812_000), stage("hls4ml 1.3.0 C simulation", 54_000)),
    )


def _operation(built: Built, operator: str) -> BoardOperationRecord:
    return BoardOperationRecord(
        board="127.0.0.1:50001",
        simulated=True,
        plan_kind=built.plan_kind,
        from_package=OLD,
        to_package=built.package_id,
        outcome="applied",
        reason="the inactive bank was written and switched to",
        loaded_words=30,
        load_s=0.012,
        switch_s=0.0002,
        golden_events=16,
        golden_mismatches=0,
        operator=operator,
        done_at=utc_now(),
    )


class Feed:
    """Sends lumisections through the real windows, judge and intake."""

    def __init__(self, site: Site, engine: Engine, source: Source, responses: DurableResponses) -> None:
        self._site, self._engine, self._source, self._responses = site, engine, source, responses
        models = {MODEL: MonitoredModel(source.contract)}
        self._windows = WindowStore(engine, models=models)

    def approve_reference(self, last: int) -> None:
        """Build the reference of the first lumisections."""
        summaries = [self._source.summary(number, OLD, seed=4) for number in range(1, last + 1)]
        reference = build_reference(
            summaries,
            self._source.contract,
            pileups=[self._conditions(1).pileup] * last,
            built_from=f"uproot-HZZ.root, {last} resampled lumisections",
        )
        register_reference(self._engine, reference, "ada", utc_now())

    def send(self, lumisection: int) -> None:
        """Send one lumisection and let its verdict have its effect."""
        now = utc_now()
        self._windows.fold_summaries([self._source.summary(lumisection)], now)
        self._windows.record_conditions(self._conditions(lumisection), now)
        for verdict in self._windows.close_ready(MODEL, RUN, now):
            taken = take_verdict(self._engine, self._site, verdict, now=now)
            for response_id in taken.start_responses:
                self._responses.start(response_id)
            self._responses.wake()

    def _conditions(self, lumisection: int) -> Conditions:
        return Conditions(
            model=MODEL,
            run=RUN,
            lumisection=lumisection,
            pileup=52.3,
            luminosity_hz_cm2=1.85e34,
            prescale_column=2,
            subsystems=["calorimeter", "muon"],
            simulated=True,
            end_of_lumisection=True,
            expected={"replay-0": 1},
        )


def main() -> None:
    """Serve a site with data until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("site", type=Path)
    parser.add_argument("--first-stop", type=int, default=44, help="lumisections sent before `ready`")
    parser.add_argument("--pace", type=float, default=0.4, help="seconds per lumisection afterwards; 0: none")
    parser.add_argument("--step", type=float, default=1.0, help="seconds per step of a response")
    arguments = parser.parse_args()
    site = load_site(arguments.site)
    engine = open_database(site.database_url)
    source = Source(site, site.state_dir)
    stopping = threading.Event()
    workshop = FakeWorkshop(source, engine, arguments.step)
    procedure = ResponseProcedure(engine, site, workshop, utc_now, stopping)
    responses = DurableResponses(engine, site.database_url, procedure, stopping)
    access, metrics = AccessControl(engine, site, utc_now), Metrics(site.models)
    services = Services(
        site=site,
        engine=engine,
        operations=Operations(engine, site, responses, access=access),
        access=access,
        logins=Logins(engine, access, utc_now, metrics.count_login),
        entrance=Entrance(site, access.people, utc_now),
        metrics=metrics,
        board_status=lambda model: _board(source, model),
        checks={},
        clock=utc_now,
        reloader=Reloader(engine, CurrentSite(site), utc_now),
        last_scrub=lambda _: LastScrub(utc_now(), "all 2,635 words are right"),
    )
    app = FastAPI()
    application.install(app, services)
    register_console(app, services)
    listener = socket.create_server(("127.0.0.1", site.settings.console.port))
    url = site.console_url(listener.getsockname()[1])
    alerts = build_alerts(engine, site, console_url=lambda: url, write=functools.partial(print, flush=True))
    responses.launch()
    alerts.start()
    feed = Feed(site, engine, source, responses)
    with transaction(engine) as session:
        session.merge(_package_record(OLD, site.packages_dir, bench_passed=True))
    known = queries.verdict_timeline(engine, MODEL, limit=1)
    if known:  # started again
        source.package = known[0].package
    else:
        feed.approve_reference(32)
    sent = known[0].lumisection if known else 0
    for lumisection in range(sent + 1, arguments.first_stop + 1):
        feed.send(lumisection)
    thread = threading.Thread(
        target=_go_on,
        args=(feed, max(sent, arguments.first_stop) + 1, arguments.pace, stopping),
        daemon=True,
    )
    thread.start()
    print(f"ready {url}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)).run(
        sockets=[listener]
    )
    stopping.set()
    alerts.stop()
    responses.stop()


def _go_on(feed: Feed, lumisection: int, pace_s: float, stopping: threading.Event) -> None:
    while pace_s > 0 and not stopping.wait(pace_s):
        feed.send(lumisection)
        lumisection += 1


def _board(source: Source, model: str) -> BoardStatus:
    return BoardStatus(
        model=model,
        address="127.0.0.1:50001",
        reachable=True,
        simulated=True,
        package_id=source.package,
        shell_hash=_id("shell"),
        partition_hashes=[_id("p0"), _id("p1")],
        structure_hash=_id("structure"),
        weights_hash=_id(source.package),
        active_bank=1 if source.package == NEW else 0,
        counters={"events": 176_000, "accepted": 17_612},
    )


if __name__ == "__main__":
    main()
