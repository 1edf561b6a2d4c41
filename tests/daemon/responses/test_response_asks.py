"""What a response asks and tells: the decision before the board, escalation, estimates, crashes."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.engine import Engine

from daemon.incidents.intake import take_verdict
from daemon.process.children import Interrupted
from daemon.responses.estimate import Estimate
from daemon.responses.hardware_plan import HardwarePlan
from daemon.responses.procedure import ResponseProcedure
from daemon.site.settings import Site
from daemon.store import queries
from daemon.store.records import DecisionStage, IncidentState, ResponseState, StepState
from tests.support.daemon import NEW_PACKAGE, OLD_PACKAGE, HandClock, make_verdict, with_policy
from tests.support.procedure import RESPONSE, Bench, states_of


@pytest.fixture
def bench(engine: Engine, site: Site, clock: HandClock) -> Bench:
    take_verdict(engine, site, make_verdict(63, onset_lumisection=61), now=clock())
    return Bench(engine, site, clock)


@pytest.fixture
def careful(engine: Engine, site: Site, clock: HandClock) -> Bench:
    """A site where the board needs a decision of its own, and nobody may be late for long."""
    site = with_policy(
        site,
        approvers=("ada", "max"),
        hardware_approvals_needed=1,
        decision_timeout_s=3600,
        escalate_after_s=600,
        escalate_to=("max",),
    )
    take_verdict(engine, site, make_verdict(63, onset_lumisection=61), now=clock())
    return Bench(engine, site, clock)


def run_until_asked(bench: Bench) -> None:
    """Approve, and run as far as the question before the board."""
    bench.propose()
    bench.operations.approve(RESPONSE, operator="ada")
    bench.propose()


def test_a_proven_package_waits_for_the_decision_before_the_board(careful: Bench):
    run_until_asked(careful)

    response = queries.response(careful.engine, RESPONSE)
    assert response.state is ResponseState.HARDWARE_PROPOSED
    assert careful.workshop.calls == ["retrain", "build", "bench"]
    asked = HardwarePlan.model_validate(response.hardware)
    assert (asked.package, asked.previous_package, asked.plan) == (NEW_PACKAGE, OLD_PACKAGE, "weights")
    assert asked.bench == "0 mismatching bits"
    assert careful.told("response.hardware_proposed") == [asked.summary]

    careful.operations.approve(RESPONSE, operator="max")
    careful.verdicts(70, 79)
    assert careful.run() == ResponseState.SUCCEEDED
    assert careful.workshop.decided_by == ["ada, max"]
    assert [step.name for step in queries.response(careful.engine, RESPONSE).steps] == [
        "propose", "decide", "retrain", "build", "bench", "confirm", "apply", "verify", "reference", "close",
    ]  # fmt: skip
    assert set(states_of(careful).values()) == {StepState.DONE}


def test_a_rejection_before_the_board_leaves_it_untouched(careful: Bench):
    run_until_asked(careful)
    careful.operations.reject(RESPONSE, operator="max")

    assert careful.run() == ResponseState.REJECTED
    assert "apply" not in careful.workshop.calls
    assert states_of(careful)["apply"] is StepState.SKIPPED
    assert queries.incident(careful.engine, "anomaly-1").state is IncidentState.OPEN


def test_nobody_before_the_board_withdraws_the_response_and_says_so(careful: Bench):
    run_until_asked(careful)
    careful.clock.move(3600)

    assert careful.run() == ResponseState.WITHDRAWN
    assert "apply" not in careful.workshop.calls
    assert careful.told("response.ended") == ["Withdrawn: no decision within 1.0 h."]
    assert queries.incident(careful.engine, "anomaly-1").state is IncidentState.OPEN


def test_a_reload_too_asks_before_the_board(careful: Bench):
    fault = make_verdict(64, families=("integrity",), reason="Firmware fault.")
    take_verdict(careful.engine, careful.site, fault, now=careful.clock())
    careful.response = "anomaly-1-r2"
    careful.propose()
    careful.operations.approve("anomaly-1-r2", operator="max")
    careful.propose()

    response = queries.response(careful.engine, "anomaly-1-r2")
    assert response.state is ResponseState.HARDWARE_PROPOSED
    assert HardwarePlan.model_validate(response.hardware).strategy == "reload"
    assert careful.workshop.calls == []


@pytest.mark.parametrize("stage", [DecisionStage.RESPONSE, DecisionStage.HARDWARE])
def test_when_nobody_decides_more_people_are_told_once(careful: Bench, stage: DecisionStage):
    if stage is DecisionStage.HARDWARE:
        run_until_asked(careful)
    else:
        careful.propose()
    careful.clock.move(599)
    careful.propose()
    assert careful.told("response.escalated") == []

    careful.clock.move(1)
    careful.propose()
    careful.propose()

    assert careful.told("response.escalated") == [f"max: {RESPONSE} has waited 10 min for a decision."]
    waits = queries.response(careful.engine, RESPONSE).waits_for
    assert waits is not None
    assert (waits.stage, waits.escalated_to) == (stage, ["max"])


def test_the_second_wait_escalates_anew(careful: Bench):
    careful.propose()
    careful.clock.move(600)
    careful.propose()
    careful.operations.approve(RESPONSE, operator="ada")
    careful.propose()
    careful.clock.move(600)
    careful.propose()

    assert len(careful.told("response.escalated")) == 2


def test_the_undecided_end_is_told(bench: Bench):
    bench.propose()
    bench.clock.move(7 * 86400)

    bench.run()

    assert bench.told("response.ended") == ["Withdrawn: no decision within 168.0 h."]


def test_a_step_that_had_ended_is_not_done_again_after_a_crash(bench: Bench):
    """The process dies when the step is written down and the engine does not know of it yet."""
    bench.propose()
    bench.operations.approve(RESPONSE, operator="local")
    bench.verdicts(70, 79)
    run_step = bench.run_step

    def die_after_apply(name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if name == "apply" and name not in bench.remembered:
            work()
            raise Interrupted
        return run_step(name, work)

    with pytest.raises(Interrupted):
        bench.procedure.run(RESPONSE, die_after_apply)
    assert bench.run() == ResponseState.SUCCEEDED

    assert bench.workshop.calls.count("apply") == 1
    told = [text for text in bench.told("response.step") if text.startswith("Reconfigure")]
    assert told == ["Reconfigure the board: switched"]


def test_a_failure_that_was_written_down_stays_one_after_a_crash(bench: Bench):
    bench.propose()
    bench.operations.approve(RESPONSE, operator="local")
    bench.workshop.fail_at = "build"

    def die_after_build(name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        result = bench.run_step(name, work)
        if name == "build":
            del bench.remembered[name]
            raise Interrupted
        return result

    with pytest.raises(Interrupted):
        bench.procedure.run(RESPONSE, die_after_build)
    bench.workshop.fail_at = None

    assert bench.run() == ResponseState.FAILED
    assert bench.workshop.calls == ["retrain", "build"]


@pytest.mark.parametrize(
    ("through", "left"),
    [("decide", "The firmware was not touched."), ("apply", "The board may run an unproven package.")],
)
def test_a_response_of_a_model_that_is_gone_ends_and_says_what_is_left(bench: Bench, through: str, left: str):
    bench.propose()
    if through == "apply":
        bench.operations.approve(RESPONSE, operator="local")
        bench.workshop.on_call = lambda name: bench.stopping.set() if name == "apply" else None
        with pytest.raises(Interrupted):
            bench.run()
        bench.stopping.clear()
    site = Site(bench.site.folder, bench.site.settings, bench.site.state_dir, bench.site.database_url, {})
    procedure = ResponseProcedure(bench.engine, site, bench.workshop, bench.clock, bench.stopping)

    assert procedure.run(RESPONSE, bench.run_step) == ResponseState.FAILED

    outcome = queries.response(bench.engine, RESPONSE).outcome or ""
    assert "put models/anomaly back" in outcome
    assert left in outcome
    assert queries.incident(bench.engine, "anomaly-1").state is IncidentState.OPEN


def test_before_any_history_a_proposal_says_that_it_is_unknown(bench: Bench):
    bench.propose()

    found = Estimate.model_validate(queries.response(bench.engine, RESPONSE).estimate)
    assert found.plan == "weights"
    assert (found.events_at_hand, found.events_needed) == (0, 50_000)
    assert {past.times for past in found.strategies} == {0}
    assert "0 events from LS 61 of run 1 on are at hand, 50,000 are needed" in found.summary
    assert found.summary.endswith(
        "Unknown, for they were not done here before: "
        "input_recalibration, bias, last_layer, layers, all_weights."
    )
    assert bench.told("response.estimated") == [found.summary]


def test_a_proposal_says_what_the_last_ones_took_and_reached(bench: Bench):
    bench.propose()
    bench.operations.approve(RESPONSE, operator="local")
    bench.workshop.on_call = lambda _: bench.clock.move(20)
    bench.verdicts(70, 79)
    bench.run()
    bench.workshop.on_call = lambda _: None
    take_verdict(bench.engine, bench.site, make_verdict(90), now=bench.clock())
    bench.response, bench.remembered = "anomaly-2-r1", {}
    bench.propose()

    found = Estimate.model_validate(queries.response(bench.engine, "anomaly-2-r1").estimate)
    past = next(past for past in found.strategies if past.strategy == "input_recalibration")
    assert (past.times, past.succeeded) == (1, 1)
    assert past.work_s == 80.0
    assert past.words == (
        "input_recalibration: verified 1 of 1 times, 80 s to the board and 0 s to verify, "
        "accept rate 10.00% of 10.00% last time"
    )


def test_a_reload_is_said_to_retrain_nothing(bench: Bench):
    fault = make_verdict(65, families=("integrity",), reason="Firmware fault.")
    take_verdict(bench.engine, bench.site, fault, now=bench.clock())
    bench.response = "anomaly-1-r2"
    bench.propose()

    found = Estimate.model_validate(queries.response(bench.engine, bench.response).estimate)
    assert found.events_needed is None
    assert [past.strategy for past in found.strategies] == ["reload"]
    assert "nothing is retrained" in found.summary
