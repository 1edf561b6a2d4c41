"""A firmware fault is answered by loading the same package again, never by retraining."""

from typing import Any

import pytest
from sqlalchemy.engine import Engine
from sqlmodel import Session

from daemon.errors import InvalidChoice
from daemon.incidents.intake import take_verdict
from daemon.responses.policy import LEAST_INVASIVE, RELOAD, Proposal, check_choice, propose
from daemon.responses.verification import VerificationState, verify, verify_integrity
from daemon.site.sections import PolicySettings
from daemon.site.settings import Site
from daemon.store import queries
from daemon.store.records import DecisionKind, IncidentState, ResponseState, StepState
from streams.integrity import judge_integrity
from streams.judging.verdict import INTEGRITY, State, Verdict
from streams.store.records import WindowRow
from tests.daemon.responses.test_procedure import RESPONSE, Bench
from tests.support.daemon import OLD_PACKAGE, HandClock, make_verdict

POLICY = PolicySettings(approvers=("ada",), strategies=("input_recalibration", "bias"))


def faulty(lumisection: int, **changes: Any) -> Verdict:
    content = {
        "families": (INTEGRITY,),
        "reason": "Firmware fault: 12 of 2,000 checked events differ from the emulator.",
        "firmware_fault": True,
        "integrity": judge_integrity(2000, 12),
        "onset_lumisection": 61,
    }
    return make_verdict(lumisection, **{**content, **changes})


def sound(lumisection: int, **changes: Any) -> Verdict:
    return make_verdict(lumisection, State.GOOD, **{"integrity": judge_integrity(2000, 0), **changes})


def begin_window(bench: Bench, lumisection: int) -> None:
    with Session(bench.engine) as session:
        content = {"summary": b"", "opened_at": bench.clock(), "updated_at": bench.clock()}
        place = {"model": "anomaly", "run": 1, "lumisection": lumisection, "package": OLD_PACKAGE}
        session.add(WindowRow(**place, contract_hash="c", **content))
        session.commit()


@pytest.fixture
def bench(engine: Engine, site: Site, clock: HandClock) -> Bench:
    take_verdict(engine, site, faulty(63), now=clock())
    return Bench(engine, site, clock)


def test_the_proposal_is_to_reload_and_offers_no_retraining():
    proposal = propose(POLICY, faulty(63), onset_lumisection=61, firmware_fault=True)
    assert proposal.kind == "reload"
    assert [option.strategy for option in proposal.options] == [RELOAD]
    assert [answer.decision for answer in proposal.alternatives] == ["prescale_out", "reject"]
    assert "Nothing is retrained" in proposal.summary
    assert Proposal.model_validate(proposal.model_dump(mode="json")) == proposal
    assert check_choice(proposal, DecisionKind.APPROVE, RELOAD) == RELOAD
    assert check_choice(proposal, DecisionKind.APPROVE, LEAST_INVASIVE) is None
    with pytest.raises(InvalidChoice):
        check_choice(proposal, DecisionKind.APPROVE, "bias")


def test_a_proposal_of_before_reloading_was_known_is_one_to_retrain():
    stored = propose(POLICY, make_verdict(63), onset_lumisection=61).model_dump(mode="json")
    del stored["kind"]
    assert Proposal.model_validate(stored).kind == "retrain"


def test_an_approved_reload_that_mends_the_board_resolves_the_incident(bench: Bench):
    # given an approved reload, and a window that had begun before
    bench.propose()
    bench.operations.approve(RESPONSE, operator="local")
    begin_window(bench, 66)
    for lumisection in (64, 65, 66):
        take_verdict(bench.engine, bench.site, faulty(lumisection), now=bench.clock())
    for lumisection in range(67, 77):
        take_verdict(bench.engine, bench.site, sound(lumisection), now=bench.clock())

    # when it runs
    assert bench.run() == ResponseState.SUCCEEDED

    # then the board was loaded once, nothing was trained or built, and mismatches of before do not count
    assert bench.workshop.calls == ["reload"]
    steps = {step.name: step.state for step in queries.response(bench.engine, RESPONSE).steps}
    done = {name for name, state in steps.items() if state is StepState.DONE}
    assert done == {"propose", "decide", "apply", "verify", "close"}
    assert {state for name, state in steps.items() if name not in done} == {StepState.SKIPPED}
    response = queries.response(bench.engine, RESPONSE)
    assert (response.strategy, response.progress) == (RELOAD, 1.0)
    incident = queries.incident(bench.engine, "anomaly-1")
    assert incident.state is IncidentState.RESOLVED
    assert incident.last_lumisection == 76
    assert "agrees with its emulator again" in incident.resolution


def test_a_board_that_still_differs_is_to_be_prescaled_out(bench: Bench):
    bench.propose()
    bench.operations.approve(RESPONSE, operator="local")
    begin_window(bench, 66)
    for lumisection in range(70, 75):
        take_verdict(bench.engine, bench.site, faulty(lumisection), now=bench.clock())

    assert bench.run() == ResponseState.FAILED

    assert bench.workshop.calls == ["reload"]
    incident = queries.incident(bench.engine, "anomaly-1")
    assert incident.state is IncidentState.OPEN
    assert incident.instruction.startswith("Prescale the anomaly trigger out")


def test_a_board_that_cannot_be_reloaded_is_to_be_prescaled_out(bench: Bench):
    bench.propose()
    bench.operations.approve(RESPONSE, operator="local")
    bench.workshop.fail_at = "reload"
    assert bench.run() == ResponseState.FAILED
    assert queries.incident(bench.engine, "anomaly-1").instruction is not None


def test_a_fault_found_during_a_drift_replaces_the_proposal_to_retrain(
    engine: Engine, site: Site, clock: HandClock
):
    # given a drift whose retraining waits for a decision
    take_verdict(engine, site, make_verdict(63, onset_lumisection=61), now=clock())
    Bench(engine, site, clock).propose()

    # when the firmware turns out to be at fault
    intake = take_verdict(engine, site, faulty(64, families=("rate", INTEGRITY)), now=clock())

    # then the old proposal is withdrawn and a new one is on its way
    old = queries.response(engine, RESPONSE)
    assert old.state is ResponseState.WITHDRAWN
    assert "no retraining mends" in old.outcome
    assert intake.start_responses == ("anomaly-1-r2",)
    assert intake.wake_responses == (RESPONSE,)
    assert queries.incident(engine, "anomaly-1").reason.startswith("Firmware fault")
    # and is asked for only once
    assert take_verdict(engine, site, faulty(65), now=clock()).start_responses == ()


def test_firmware_with_wrong_bits_is_not_verified_after_a_retraining():
    verdicts = [faulty(ls, families=(INTEGRITY,), rate_deviation=0.0) for ls in (70, 71)]
    assert verify(verdicts, needed=3, allowed_misses=1, rate_band=0.1).state is VerificationState.FAILED


@pytest.mark.parametrize(
    ("verdicts", "state"),
    [
        ([sound(1), sound(2)], VerificationState.WAITING),
        ([sound(1), sound(2), sound(3)], VerificationState.PASSED),
        ([sound(1), sound(2), sound(3, integrity=judge_integrity(0, 0))], VerificationState.WAITING),
        ([sound(1), sound(2), sound(3, integrity=None)], VerificationState.WAITING),
        ([sound(1), sound(2), sound(3, firmware_fault=True)], VerificationState.WAITING),
        ([sound(1), faulty(2), sound(3)], VerificationState.PASSED),
        ([faulty(1), faulty(2)], VerificationState.FAILED),
    ],
)
def test_a_reload_is_verified_by_checked_windows_alone(verdicts, state):
    assert verify_integrity(verdicts, needed=3, allowed_misses=1).state is state
