import pytest
from pydantic import ValidationError

from daemon.errors import InvalidChoice, NotPermitted
from daemon.responses.policy import (
    LEAST_INVASIVE,
    Proposal,
    approvals_of,
    check_choice,
    check_distinct,
    check_may_decide,
    outcome_of,
    propose,
    strategies_to_try,
)
from daemon.site.sections import PolicySettings
from daemon.store.records import DecisionKind, DecisionStage
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


def test_a_stage_counts_its_own_approvals(proposal: Proposal):
    asks_twice = proposal.model_copy(update={"approvals_needed": 2, "hardware_approvals_needed": 1})

    assert approvals_of(asks_twice, DecisionStage.RESPONSE) == 2
    assert approvals_of(asks_twice, DecisionStage.HARDWARE) == 1


def test_who_approved_the_beginning_does_not_approve_the_board(proposal: Proposal):
    check_distinct(proposal, "anomaly-1-r1", "max", ["ada"])
    with pytest.raises(NotPermitted, match="somebody else"):
        check_distinct(proposal, "anomaly-1-r1", "ada", ["ada"])
    alone = proposal.model_copy(update={"distinct_approvers": False})
    check_distinct(alone, "anomaly-1-r1", "ada", ["ada"])


def test_a_built_package_has_no_strategy_to_choose(proposal: Proposal):
    assert check_choice(proposal, DecisionKind.APPROVE, None, DecisionStage.HARDWARE) is None
    with pytest.raises(InvalidChoice, match="name no strategy"):
        check_choice(proposal, DecisionKind.APPROVE, "bias", DecisionStage.HARDWARE)


def test_a_proposal_of_an_earlier_lumiwatch_asks_once(proposal: Proposal):
    stored = proposal.model_dump(mode="json")
    for key in ("hardware_approvals_needed", "distinct_approvers", "escalate_after_s", "escalate_to"):
        del stored[key]

    assert Proposal.model_validate(stored).hardware_approvals_needed == 0


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"hardware_approvals_needed": 2}, "3 different approvers are needed, and 2 are listed"),
        ({"hardware_approvals_needed": 3}, "less than or equal to 2"),
        ({"escalate_after_s": 60.0}, "go together"),
        ({"escalate_to": ("ada",)}, "go together"),
        ({"escalate_after_s": 60.0, "escalate_to": ("ada", "ada")}, "names a value twice"),
    ],
)
def test_a_policy_that_cannot_be_kept_is_refused(keys: dict[str, object], problem: str):
    with pytest.raises(ValidationError, match=problem):
        PolicySettings.model_validate({"approvers": ("ada", "max"), **keys})


def test_two_approvers_may_decide_twice_each_where_the_policy_allows_it():
    policy = PolicySettings(
        approvers=("ada", "max"), approvals_needed=2, hardware_approvals_needed=2, distinct_approvers=False
    )

    assert policy.hardware_approvals_needed == 2
