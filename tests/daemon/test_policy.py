import pytest

from daemon.errors import InvalidChoice, NotPermitted
from daemon.policy import (
    LEAST_INVASIVE,
    Proposal,
    check_choice,
    check_may_decide,
    outcome_of,
    propose,
    strategies_to_try,
)
from daemon.records import DecisionKind
from daemon.sections import PolicySettings
from tests.support.daemon import make_verdict

POLICY = PolicySettings(approvers=("ada", "max"), strategies=("input_recalibration", "bias"))


@pytest.fixture
def proposal() -> Proposal:
    return propose(POLICY, make_verdict(64), onset_lumisection=61)


def test_a_proposal_offers_the_allowed_strategies_and_least_invasive_by_default(proposal: Proposal):
    assert [option.strategy for option in proposal.options] == [LEAST_INVASIVE, "input_recalibration", "bias"]
    assert [option.strategy for option in proposal.options if option.default] == [LEAST_INVASIVE]


def test_prescale_out_is_always_offered(proposal: Proposal):
    assert "prescale_out" in [option.decision for option in proposal.alternatives]


def test_a_proposal_survives_the_database(proposal: Proposal):
    assert Proposal.model_validate(proposal.model_dump(mode="json")) == proposal


def test_only_listed_approvers_decide(proposal: Proposal):
    check_may_decide(proposal, "anomaly-1-r1", "ada")
    with pytest.raises(NotPermitted, match="ada or max"):
        check_may_decide(proposal, "anomaly-1-r1", "eve")


def test_a_strategy_must_be_offered(proposal: Proposal):
    assert check_choice(proposal, DecisionKind.APPROVE, "bias") == "bias"
    assert check_choice(proposal, DecisionKind.APPROVE, None) is None
    assert check_choice(proposal, DecisionKind.APPROVE, LEAST_INVASIVE) is None
    with pytest.raises(InvalidChoice, match="input_recalibration"):
        check_choice(proposal, DecisionKind.APPROVE, "all_weights")
    with pytest.raises(InvalidChoice):
        check_choice(proposal, DecisionKind.REJECT, "bias")


def test_strategies_are_tried_in_the_order_of_the_policy():
    assert strategies_to_try(POLICY, None) == ("input_recalibration", "bias")
    assert strategies_to_try(POLICY, "bias") == ("bias",)


@pytest.mark.parametrize(
    ("kinds", "needed", "outcome"),
    [
        ([DecisionKind.APPROVE], 1, DecisionKind.APPROVE),
        ([DecisionKind.APPROVE], 2, None),
        ([DecisionKind.APPROVE, DecisionKind.APPROVE], 2, DecisionKind.APPROVE),
        ([DecisionKind.APPROVE, DecisionKind.REJECT], 2, DecisionKind.REJECT),
        ([DecisionKind.PRESCALE_OUT], 2, DecisionKind.PRESCALE_OUT),
    ],
)
def test_approvals_are_counted_and_one_no_is_enough(
    kinds: list[DecisionKind], needed: int, outcome: DecisionKind | None
):
    assert outcome_of([(kind, None) for kind in kinds], needed) == outcome
