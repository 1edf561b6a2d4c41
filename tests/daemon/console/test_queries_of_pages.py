"""What the pages ask, on both databases: the newest of each model, what waits, boards and benches."""

from dataclasses import replace
from datetime import timedelta
from threading import Event

import pytest
from sqlmodel import Session

from daemon.console import wall
from daemon.incidents.intake import take_verdict
from daemon.operations import Operations, utc_now
from daemon.responses.approval import Approval
from daemon.responses.patience import Patience
from daemon.responses.steps import BENCH, StepLog
from daemon.site.settings import load_site
from daemon.store import decision_queries, queries, room_queries
from daemon.store.database import open_database, transaction
from daemon.store.records import DecisionKind, ResponseRecord, ResponseStepRecord
from hw.records import BoardOperationRecord, PackageRecord
from hw.report import BenchReport, StageReport
from streams.judging.verdict import State
from tests.support import wall_server
from tests.support.access import make_services
from tests.support.daemon import NEW_PACKAGE, OLD_PACKAGE, Everybody, NoWorkflows, copy_site, make_verdict


@pytest.fixture(params=["sqlite", "postgresql"])
def services(request, tmp_path):
    folder = copy_site(tmp_path)
    wall_server.add_models(folder, 4)
    site = load_site(folder)
    if request.param == "postgresql":
        site = replace(site, database_url=request.getfixturevalue("postgres_url"))
    now = utc_now()
    engine = open_database(site.database_url)
    yield make_services(engine, site, lambda: now)
    engine.dispose()


def test_the_wall_reads_the_same_from_both_databases(services):
    wall_server.fill(services.engine, services.site, 70, services.clock())

    shown = wall.look(services)

    assert [(tile.model, tile.look.word) for tile in shown.tiles] == [
        ("tau-nn", "ALARM"),
        ("bjet-tag", "WARNING"),
        ("anomaly", "GOOD"),
        ("dijet-mass", "GOOD"),
    ]
    for tile in shown.tiles:
        assert [mark.lumisection for mark in tile.strip] == list(range(11, 71))
        assert tile.strip[-1].rate_deviation == pytest.approx(tile.verdict.rate_deviation)
        assert tile.strip[-1].state == tile.verdict.state
    assert shown.tiles[0].alarm_words.endswith("since LS 58: tau-nn-1, open")
    assert shown.tiles[2].alarm_words == "No alarm so far."


def test_the_status_of_every_model_is_the_status_of_each(services):
    wall_server.fill(services.engine, services.site, 20, services.clock())

    every = queries.model_statuses(services.engine, services.site)

    assert every == [
        queries.model_status(services.engine, services.site, name) for name in sorted(services.site.models)
    ]
    alarmed = next(status for status in every if status.model == "tau-nn")
    assert (alarmed.incident.id, alarmed.response.id) == ("tau-nn-1", "tau-nn-1-r1")
    assert {status.windows_judged for status in every} == {20}


def test_a_later_run_and_a_later_revision_are_the_latest(services):
    now = services.clock()
    for seconds, verdict in enumerate(
        [
            make_verdict(900, State.GOOD, run=1, reason="old run"),
            make_verdict(3, State.GOOD, run=2, reason="first look"),
            make_verdict(3, State.WARNING, run=2, reason="late data"),
            make_verdict(2, State.GOOD, run=2, reason="came late"),
        ]
    ):
        take_verdict(services.engine, services.site, verdict, now=now + timedelta(seconds=seconds))

    with Session(services.engine) as session:
        latest = queries.latest_verdicts(session, ["anomaly", "tau-nn"])

    assert {name: verdict.reason for name, verdict in latest.items()} == {"anomaly": "late data"}
    assert queries.runs(services.engine, "anomaly") == [2, 1]
    found = queries.verdicts_at(services.engine, "anomaly", 2, 3)
    assert [verdict.reason for verdict in found] == ["first look", "late data"]


def test_what_waits_says_who_answered_and_who_may_still(services):
    policy = services.site.models["anomaly"].policy.model_copy(
        update={"approvers": ("ada", "max", "local"), "approvals_needed": 2}
    )
    model = services.site.models["anomaly"]
    settings = model.settings.model_copy(update={"policy": policy})
    models = {**services.site.models, "anomaly": replace(model, settings=settings)}
    site = replace(services.site, models=models)
    taken = take_verdict(services.engine, site, make_verdict(5), now=services.clock())
    (response_id,) = taken.start_responses
    approval = Approval(services.engine, site, services.clock, Patience(Event()))
    approval.propose(response_id, StepLog(services.engine, response_id, services.clock))
    operations = Operations(services.engine, site, NoWorkflows(), services.clock, access=Everybody())
    operations.decide(response_id, DecisionKind.APPROVE, operator="max", via="api")

    (waiting,) = decision_queries.waiting_responses(services.engine)

    assert waiting.id == response_id
    assert (waiting.waits_for.approved_by, waiting.waits_for.missing) == (["max"], ["ada", "local"])
    assert waiting.waits_for.needed == 2
    ((decided, decision),) = decision_queries.latest_decisions(services.engine)
    assert (decided, decision.operator, decision.kind) == (response_id, "max", DecisionKind.APPROVE)


def package(identity, name, now):
    hashes = dict.fromkeys(("structure_hash", "weights_hash", "contract_hash"), "0")
    more = {"toolchain": "hls4ml", "toolchain_version": "1", "bench_passed": True}
    return PackageRecord(id=identity, name=name, version="1", path="x", recorded_at=now, **hashes, **more)


def operation(to_package, switch_s, now):
    return BoardOperationRecord(
        board="127.0.0.1:1",
        simulated=True,
        plan_kind="weights",
        from_package="other",
        to_package=to_package,
        outcome="applied",
        reason="",
        loaded_words=1,
        load_s=0.1,
        switch_s=switch_s,
        golden_events=16,
        golden_mismatches=0,
        done_at=now,
    )


def test_the_last_operation_on_the_board_of_each_model(services):
    now = services.clock()
    with transaction(services.engine) as session:
        session.add(package(OLD_PACKAGE, "anomaly", now))
        session.add(package(NEW_PACKAGE, "tau-nn", now))
    for identity, switch_s in ((OLD_PACKAGE, 0.1), (NEW_PACKAGE, 0.2), (OLD_PACKAGE, 0.3), ("unknown", 0.4)):
        with transaction(services.engine) as session:
            session.add(operation(identity, switch_s, now))

    last = room_queries.last_operations(services.engine, ["anomaly", "bjet-tag", "tau-nn"])
    every = room_queries.board_operations(services.engine)

    assert {name: one.switch_s for name, one in last.items()} == {"anomaly": 0.3, "tau-nn": 0.2}
    assert [(one.model, one.switch_s) for one in every] == [
        (None, 0.4),
        ("anomaly", 0.3),
        ("tau-nn", 0.2),
        ("anomaly", 0.1),
    ]
    assert all(one.at == now for one in every)
    of_one = room_queries.board_operations(services.engine, package_id=NEW_PACKAGE)
    assert [one.switch_s for one in of_one] == [0.2]


def test_benches_of_a_package_are_those_of_the_response_that_made_it(services):
    now = services.clock()
    stage = StageReport(
        name="emulator",
        binding=True,
        events=9,
        mismatching_events=0,
        mismatching_bits=0,
        largest_error_lsb=0.0,
        events_per_s=1.0,
    )
    report = BenchReport(
        model_name="anomaly", structure_hash="0", weights_hash="0", inputs_hash="0", stages=(stage, stage)
    )
    taken = take_verdict(services.engine, services.site, make_verdict(5), now=now)
    (response_id,) = taken.start_responses
    with transaction(services.engine) as session:
        session.get(ResponseRecord, response_id).candidate_package = NEW_PACKAGE
        for number, (name, result) in enumerate(
            [
                (BENCH.name, {"report": report.model_dump(mode="json")}),
                ("apply", {"detail": {"bench": report.model_dump(mode="json")}}),
                ("verify", {"report": "not a bench"}),
            ]
        ):
            session.add(
                ResponseStepRecord(
                    response_id=response_id,
                    number=90 + number,
                    name=name,
                    title=name,
                    ended_at=now + timedelta(seconds=number),
                    result=result,
                )
            )

    found = room_queries.benches(services.engine, NEW_PACKAGE)

    assert [(one.title, one.report) for one in found] == [
        (f"{response_id}: {BENCH.name}", report),
        (f"{response_id}: apply", report),
    ]
    assert room_queries.benches(services.engine, OLD_PACKAGE) == []
