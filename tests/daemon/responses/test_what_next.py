"""What people are told of a response: what it asks, of whom, and what comes next."""

import pytest
from sqlalchemy.engine import Engine

from daemon.incidents.intake import take_verdict
from daemon.responses.what_next import what_next
from daemon.site.settings import Site
from daemon.store import queries
from daemon.store.records import ResponseState
from tests.support.daemon import HandClock, make_verdict, with_policy
from tests.support.procedure import RESPONSE, Bench


@pytest.fixture
def bench(engine: Engine, site: Site, clock: HandClock) -> Bench:
    """Three people; two to begin, one before the board."""
    site = with_policy(
        site,
        approvers=("ada", "max", "eva"),
        approvals_needed=2,
        hardware_approvals_needed=1,
        decision_timeout_s=3600,
        escalate_after_s=600,
        escalate_to=("eva",),
    )
    take_verdict(engine, site, make_verdict(63), now=clock())
    made = Bench(engine, site, clock)
    made.propose()
    return made


def said(bench: Bench) -> str:
    return what_next(queries.response(bench.engine, RESPONSE))


def test_a_proposal_says_whom_it_waits_for_and_until_when(bench: Bench):
    assert said(bench) == (
        "It waits for 2 approvals of ada or max or eva (whether to begin); "
        "withdrawn without an answer by 2026-03-01 13:00 UTC."
    )


def test_who_has_approved_is_no_longer_missing(bench: Bench):
    bench.operations.approve(RESPONSE, operator="max")
    bench.clock.move(600)
    bench.propose()

    assert said(bench) == (
        "It waits for 1 approval of ada or eva (whether to begin); approved by max; "
        "withdrawn without an answer by 2026-03-01 13:00 UTC; escalated to eva."
    )


def test_an_approved_response_says_that_it_will_ask_again(bench: Bench):
    bench.operations.approve(RESPONSE, operator="max")
    bench.operations.approve(RESPONSE, operator="ada")

    assert said(bench) == (
        "It retrains, builds and proves a package, and asks for one more approval before it reconfigures "
        "the board; 10 lumisections then verify it."
    )


def test_before_and_after_the_board(bench: Bench):
    bench.operations.approve(RESPONSE, operator="max")
    bench.operations.approve(RESPONSE, operator="ada")
    bench.propose()
    assert said(bench) == (
        "It waits for 1 approval of eva (whether the package may go onto the board); "
        "withdrawn without an answer by 2026-03-01 13:00 UTC."
    )
    bench.operations.approve(RESPONSE, operator="eva")

    assert said(bench) == ("The board is reconfigured; 10 lumisections then verify it, or it is rolled back.")


def test_a_no_says_how_to_go_on(bench: Bench):
    bench.operations.reject(RESPONSE, operator="ada")

    assert said(bench).endswith("Ask for another response with `lumiwatch incidents respond anomaly-1`.")


def test_prescaling_out_says_the_instruction(bench: Bench):
    bench.operations.prescale_out(RESPONSE, operator="ada")

    assert said(bench).startswith("The firmware stays as it is. Prescale the anomaly trigger out")


def test_without_a_second_question_the_board_comes_next(engine: Engine, site: Site, clock: HandClock):
    take_verdict(engine, site, make_verdict(63), now=clock())
    assert what_next(queries.response(engine, RESPONSE)) == "The proposal is being prepared."
    bench = Bench(engine, site, clock)
    bench.propose()
    bench.operations.approve(RESPONSE, operator="local")

    assert said(bench) == (
        "It retrains, builds and proves a package and reconfigures the board; 10 lumisections then verify "
        "it, or it is rolled back."
    )


def test_an_end_tells_itself(bench: Bench):
    bench.clock.move(3600)

    assert bench.run() == ResponseState.WITHDRAWN
    assert said(bench) == "Withdrawn: no decision within 1.0 h."
