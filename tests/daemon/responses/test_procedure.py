"""The procedure step by step, with a fake workshop and a step runner that remembers like the durable one."""

from threading import Thread

import pytest
from sqlalchemy.engine import Engine

from daemon.incidents.intake import take_verdict
from daemon.journal.lineage import trace
from daemon.process.children import Interrupted
from daemon.site.settings import Site
from daemon.store import queries
from daemon.store.records import IncidentState, ResponseState, StepState
from streams.judging.verdict import State
from tests.support.daemon import NEW_PACKAGE, OLD_PACKAGE, HandClock, make_verdict, with_policy
from tests.support.procedure import RESPONSE, Bench, states_of


@pytest.fixture
def bench(engine: Engine, site: Site, clock: HandClock) -> Bench:
    take_verdict(engine, site, make_verdict(63, onset_lumisection=61), now=clock())
    take_verdict(engine, site, make_verdict(64), now=clock())
    return Bench(engine, site, clock)


def test_an_approved_response_runs_to_a_resolved_incident(bench: Bench):
    bench.propose()
    bench.operations.approve(RESPONSE, operator="local")
    bench.verdicts(70, 79)

    assert bench.run() == ResponseState.SUCCEEDED

    response = queries.response(bench.engine, RESPONSE)
    incident = queries.incident(bench.engine, "anomaly-1")
    assert bench.workshop.calls == ["retrain", "build", "bench", "apply", "successor_reference"]
    assert set(states_of(bench).values()) == {StepState.DONE}
    assert response.progress == 1.0
    assert (response.previous_package, response.candidate_package) == (OLD_PACKAGE, NEW_PACKAGE)
    assert response.reference_id == "f" * 64
    assert incident.state is IncidentState.RESOLVED
    assert incident.last_lumisection == 79
    assert all(step.started_at and step.ended_at for step in response.steps)


def test_the_retraining_uses_data_from_the_onset_to_the_latest_alarm(bench: Bench):
    bench.propose()
    bench.operations.approve(RESPONSE, operator="local", strategy="bias")
    bench.workshop.fail_at = "retrain"
    bench.run()

    task = bench.remembered["decide"]["task"]
    assert (task["first_lumisection"], task["last_lumisection"]) == (61, 64)
    assert task["strategies"] == ["bias"]


def test_lineage_leads_from_the_firmware_to_the_incident(bench: Bench):
    bench.propose()
    bench.operations.approve(RESPONSE, operator="local")
    bench.verdicts(70, 79)
    bench.run()

    kinds = {node.kind for node in trace(bench.engine, NEW_PACKAGE).nodes}
    assert {"package", "training", "dataset", "response", "incident"} <= kinds


def test_a_rejection_touches_nothing(bench: Bench):
    bench.propose()
    bench.operations.reject(RESPONSE, operator="local")

    assert bench.run() == ResponseState.REJECTED
    assert bench.workshop.calls == []
    assert states_of(bench)["retrain"] is StepState.SKIPPED
    assert queries.incident(bench.engine, "anomaly-1").state is IncidentState.OPEN


@pytest.mark.parametrize("step", ["retrain", "build", "bench"])
def test_a_failure_before_the_board_leaves_it_untouched(bench: Bench, step: str):
    bench.propose()
    bench.operations.approve(RESPONSE, operator="local")
    bench.workshop.fail_at = step

    assert bench.run() == ResponseState.FAILED
    assert "apply" not in bench.workshop.calls
    assert "not touched" in (queries.response(bench.engine, RESPONSE).outcome or "")
    assert states_of(bench)[step] is StepState.FAILED
    assert queries.incident(bench.engine, "anomaly-1").state is IncidentState.OPEN


def test_a_bench_with_mismatches_stops_the_response(bench: Bench):
    bench.propose()
    bench.operations.approve(RESPONSE, operator="local")
    bench.workshop.bench_passes = False

    assert bench.run() == ResponseState.FAILED
    assert "apply" not in bench.workshop.calls


def test_windows_that_do_not_agree_roll_the_board_back(bench: Bench):
    bench.propose()
    bench.operations.approve(RESPONSE, operator="local")
    bench.verdicts(70, 71, State.ALARM, families=("rate",))

    assert bench.run() == ResponseState.ROLLED_BACK
    assert bench.workshop.board == OLD_PACKAGE
    assert states_of(bench)["roll_back"] is StepState.DONE
    assert queries.incident(bench.engine, "anomaly-1").state is IncidentState.OPEN


def test_a_failed_reconfiguration_rolls_back_too(bench: Bench):
    bench.propose()
    bench.operations.approve(RESPONSE, operator="local")
    bench.workshop.fail_at = "apply"

    assert bench.run() == ResponseState.ROLLED_BACK
    assert bench.workshop.calls[-1] == "roll_back"


def test_a_rollback_that_fails_tells_the_shift_to_prescale(bench: Bench):
    bench.propose()
    bench.operations.approve(RESPONSE, operator="local")
    bench.verdicts(70, 71, State.ALARM, families=("rate",))
    bench.workshop.fail_at = "roll_back"

    assert bench.run() == ResponseState.FAILED
    assert "Prescale" in (queries.incident(bench.engine, "anomaly-1").instruction or "")


def test_no_windows_in_time_roll_the_board_back(bench: Bench):
    bench.propose()
    bench.operations.approve(RESPONSE, operator="local")
    bench.workshop.on_call = lambda _: None
    thread = Thread(target=bench.run)
    thread.start()
    while states_of(bench)["verify"] is not StepState.RUNNING:  # from then on its time counts
        thread.join(0.02)

    bench.clock.move(3601)
    thread.join(60)

    assert queries.response(bench.engine, RESPONSE).state is ResponseState.ROLLED_BACK


def test_an_interrupted_response_repeats_only_the_step_it_was_in(bench: Bench):
    bench.propose()
    bench.operations.approve(RESPONSE, operator="local")

    def stop_during_build(name: str) -> None:
        if name == "build":
            bench.workshop.on_call = lambda _: None
            raise Interrupted

    bench.workshop.on_call = stop_during_build
    with pytest.raises(Interrupted):
        bench.run()
    assert states_of(bench)["build"] is StepState.RUNNING
    bench.verdicts(70, 79)

    assert bench.run() == ResponseState.SUCCEEDED
    assert bench.workshop.calls == ["retrain", "build", "build", "bench", "apply", "successor_reference"]


def test_an_undecided_proposal_is_withdrawn_in_the_end(bench: Bench):
    bench.propose()
    bench.clock.move(8 * 86400)

    assert bench.run() == ResponseState.WITHDRAWN
    assert queries.incident(bench.engine, "anomaly-1").state is IncidentState.OPEN


def test_a_policy_may_approve_weight_updates_by_itself(engine: Engine, site: Site, clock: HandClock):
    site = with_policy(site, auto_plan_kinds=("weights",))
    take_verdict(engine, site, make_verdict(63), now=clock())
    bench = Bench(engine, site, clock)
    bench.workshop.plan_kind = "full"

    assert bench.run() == ResponseState.FAILED
    response = queries.response(engine, RESPONSE)
    assert response.decided_by == "policy"
    assert "without an approval" in (response.outcome or "")
    assert "apply" not in bench.workshop.calls


def test_a_policy_approves_nothing_while_another_response_is_at_work(
    engine: Engine, site: Site, clock: HandClock
):
    take_verdict(engine, site, make_verdict(60, State.GOOD), now=clock())
    asked = Bench(engine, site, clock)
    asked.operations.request_retrain("anomaly", operator="local", reason="slow drift")
    asked.propose()
    asked.operations.approve(RESPONSE, operator="local")
    take_verdict(engine, site, make_verdict(63), now=clock())
    alarm = Bench(engine, with_policy(site, auto_plan_kinds=("weights",)), clock)
    alarm.response = "anomaly-2-r1"
    alarm.propose()

    assert queries.response(engine, "anomaly-2-r1").state is ResponseState.PROPOSED
