"""A small site for tests that kill: real firmware on a real emulated board, and the stream's records by hand.

What broker and worker would bring (recorded events, windows, conditions, verdicts) is written as they do;
nobody has to wait for lumisections.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from sqlalchemy.engine import Engine
from sqlmodel import Session

from daemon.incidents.intake import take_verdict
from daemon.responses.board_work import package_path
from daemon.site.keys import ensure_keys, site_trusted_keys
from daemon.site.settings import Site, load_site
from daemon.store.database import open_database, transaction
from hw.archive import write_atomically
from hw.board import BoardIdentity
from hw.boards.emulated import EmulatedBoardProcess, start_emulated_board
from hw.boards.ipbus import IPbusBoard
from hw.emulator import Emulator
from hw.errors import BoardUnreachable
from hw.job import BuildSpec, build
from hw.package import Package, open_package
from hw.records import last_package, record_package
from streams.conditions import Conditions, encode_conditions
from streams.contracts.contract import Contract
from streams.counting.codec import encode_summary
from streams.counting.summary import summarise
from streams.events.batch import Batch
from streams.events.recorder import Recorder, RecorderSettings
from streams.judging.reference import build_reference
from streams.judging.reference_store import register_reference
from streams.judging.verdict import State
from streams.store.records import ConditionsRow, WindowRow, WindowState
from tests.support.daemon import copy_site, make_verdict, with_policy
from tests.support.hw import random_inputs, random_model

MODEL = "anomaly"
APPROVERS = ("ada", "max")
_EVENTS = 600
_NEEDED = 3
_PILEUP = 50.0


def site_for_kills(folder: Path, database_url: str) -> Site:
    """Load a site with a policy that asks twice and verifies soon."""
    site = with_policy(
        load_site(folder),
        approvers=APPROVERS,
        hardware_approvals_needed=1,
        verify_lumisections=_NEEDED,
        verify_allowed_misses=0,
    )
    model = site.models[MODEL]
    retrain = model.settings.retrain.model_copy(update={"minimum_events": _EVENTS})
    settings = model.settings.model_copy(update={"retrain": retrain})
    return replace(site, database_url=database_url, models={MODEL: replace(model, settings=settings)})


def make_firmware(folder: Path) -> Path:
    """Copy the example site and build its first package, once for all tests; gives the site's folder."""
    site = load_site(copy_site(folder))
    contract = site.models[MODEL].contract
    ensure_keys(site)
    site.packages_dir.mkdir(parents=True)
    file = folder / "model.npz"
    model = random_model(
        (contract.n_inputs, 4, 3), contract_hash=contract.hash, input_names=contract.input_names
    )
    file.write_bytes(model.to_npz_bytes())
    spec = BuildSpec(
        model=file,
        out=folder / "first.lwpkg",
        signing_key=site.signing_key_file,
        version="1",
        toolchain=site.models[MODEL].settings.firmware.toolchain,
        events=500,
    )
    result = build(spec)
    spec.out.replace(site.packages_dir / f"{result.package_id}.lwpkg")
    return site.folder


@dataclass
class KillSite:
    """The site, its database and its board, which is started again when it has died."""

    site: Site
    engine: Engine
    reference: str
    board: EmulatedBoardProcess

    def keep_board(self) -> None:
        """Start the board again if it has died, with the package that it ran last: as `lumiwatch up` does."""
        if self._board_answers():
            return
        self.board.stop()
        with Session(self.engine) as session:
            package = last_package(session, MODEL)
        assert package is not None
        self.board = _start_board(self.site, package_path(self.engine, self.site, package.id))

    def _board_answers(self) -> bool:
        """Ask the board itself: one that was killed a moment ago may still count as running."""
        try:
            with contextlib.closing(IPbusBoard(self.board.address)) as board:
                board.identify()
        except BoardUnreachable:
            return False
        return True

    def identity(self) -> BoardIdentity:
        """What the board says that it runs; its weights are those of that package, all of them."""
        with contextlib.closing(IPbusBoard(self.board.address)) as board:
            before = board.identify()
            words = board.read_back(active=True)
            found = board.identify()
        assert before.epoch == found.epoch
        package = self.package(found.package_id)
        assert np.array_equal(words, package.model.memory()), "the board runs a mixture"
        assert found.weights_hash == package.manifest.weights_hash
        return found

    def package(self, package_id: str) -> Package:
        """Open a package of the site."""
        return open_package(package_path(self.engine, self.site, package_id), site_trusted_keys(self.site))

    def drift(self, run: int) -> None:
        """Let a run drift: events before and after the onset, and an alarm. No daemon runs meanwhile."""
        package = self.package(self.identity().package_id)
        contract = self.site.models[MODEL].contract
        recorder = Recorder(RecorderSettings(self.site.recent_dir, prescale=1))
        for lumisection in (1, 2, 3, 4):
            recorder.record(_batch(contract, run, lumisection, package), contract)
        recorder.close()
        verdict = make_verdict(
            4, run=run, onset_lumisection=3, package=package.id, reference_id=self.reference
        )
        take_verdict(self.engine, self.site, verdict, now=datetime.now(UTC))

    def judge(self, run: int, package: Package, state: State) -> None:
        """Let the stream judge the lumisections after a reconfiguration."""
        now, contract = datetime.now(UTC), self.site.models[MODEL].contract
        for lumisection in range(10, 10 + _NEEDED):
            summary = summarise(_batch(contract, run, lumisection, package), contract)
            with transaction(self.engine) as session:
                session.add(
                    WindowRow(
                        model=MODEL, run=run, lumisection=lumisection, package=package.id,
                        contract_hash=summary.contract_hash, state=WindowState.CLOSED, complete=True,
                        simulated=True, n_batches=1, n_events=summary.n_events,
                        summary=encode_summary(summary), opened_at=now, updated_at=now, closed_at=now,
                    )
                )  # fmt: skip
                document = encode_conditions(_conditions(run, lumisection)).decode()
                place = {"model": MODEL, "run": run, "lumisection": lumisection}
                session.add(ConditionsRow(**place, document=document, updated_at=now))
            families = ("rate",) if state is State.ALARM else ()
            verdict = make_verdict(
                lumisection, state, run=run, package=package.id, families=families,
                reference_id=self.reference,
            )  # fmt: skip
            take_verdict(self.engine, self.site, verdict, now=now)


@contextlib.contextmanager
def kill_site(firmware: Path, folder: Path, database_url: str | None = None) -> Iterator[KillSite]:
    """Copy a site that `make_firmware` made, stock its database, and start its board.

    Parameters
    ----------
    database_url
        Of an empty database; None: the site's own file.
    """
    target = Path(shutil.copytree(firmware, folder / "site"))
    site = site_for_kills(target, database_url or load_site(target).database_url)
    engine = open_database(site.database_url)
    (file,) = site.packages_dir.glob("*.lwpkg")
    package = open_package(file, site_trusted_keys(site))
    with transaction(engine) as session:
        record_package(session, package, file, now=datetime.now(UTC))
    contract = site.models[MODEL].contract
    summaries = [summarise(_batch(contract, 1, number, package), contract) for number in range(1, 17)]
    reference = build_reference(summaries, contract, pileups=[_PILEUP] * 16, built_from="a test")
    identity = register_reference(engine, reference, "local", datetime.now(UTC)).id
    made = KillSite(site, engine, identity, _start_board(site, file))
    try:
        yield made
    finally:
        made.board.stop()
        engine.dispose()


def _start_board(site: Site, package: Path) -> EmulatedBoardProcess:
    board = start_emulated_board(package, sorted(site.trusted_keys_dir.glob("*.pub")))
    file = site.board_file(MODEL)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps({"address": board.address, "pid": board.pid}).encode())
    return board


def _batch(contract: Contract, run: int, lumisection: int, package: Package) -> Batch:
    """Make random events of a lumisection, with the scores of a package."""
    inputs = random_inputs(_EVENTS, contract.n_inputs, seed=1000 * run + lumisection)
    scores = Emulator(package.model).scores(inputs)
    return Batch(
        model=MODEL,
        contract_name=contract.name,
        contract_version=contract.version,
        contract_hash=contract.hash,
        run=run,
        lumisection=lumisection,
        source="replay",
        sequence=lumisection,
        package=package.id,
        simulated=True,
        inputs=inputs,
        score=scores.astype(np.int32),
        accept=scores > package.model.score_stage.threshold_raw,
        input_names=contract.input_names,
    )


def _conditions(run: int, lumisection: int) -> Conditions:
    return Conditions(model=MODEL, run=run, lumisection=lumisection, pileup=_PILEUP, simulated=True)
