"""Who may decide, and what a proposal offers: pure functions over a model's policy.

Knows no database, no clock and no workflow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from daemon.errors import InvalidChoice, NotPermitted
from daemon.site.sections import PolicySettings
from daemon.store.records import DecisionKind, DecisionStage
from streams.judging.verdict import Verdict

LEAST_INVASIVE = "least_invasive"
"""What an approval without a named strategy means: the least invasive strategy that passes."""

RELOAD = "reload"
"""The strategy against a firmware fault: the board gets the same package once more. Nothing is retrained."""

_STRATEGY_TEXT = {
    "input_recalibration": "Recalibrate the input scales; no network weight changes.",
    "batchnorm": "Refresh the batch-normalisation statistics.",
    "bias": "Retrain the biases only.",
    "last_layer": "Retrain the last layer.",
    "layers": "Retrain the last layers.",
    "all_weights": "Retrain every weight.",
}


class Option(BaseModel):
    """One strategy the operator may choose."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: str
    text: str
    default: bool = False


class Alternative(BaseModel):
    """One answer other than retraining."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decision: Literal["prescale_out", "reject"]
    text: str


class Proposal(BaseModel):
    """What an operator is asked; stored with the response, and never changed afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["retrain", "reload"] = "retrain"
    summary: str
    options: tuple[Option, ...]  # of a retraining, the first is "least invasive that passes"
    alternatives: tuple[Alternative, ...]
    approvers: tuple[str, ...]
    approvals_needed: int
    hardware_approvals_needed: int = 0
    distinct_approvers: bool = True
    escalate_after_s: float | None = None
    escalate_to: tuple[str, ...] = ()
    verify_lumisections: int
    expected_plan: str = "weights"
    package: str
    run: int
    first_lumisection: int
    last_lumisection: int
    reference_id: str | None


def propose(
    policy: PolicySettings, verdict: Verdict, *, onset_lumisection: int, firmware_fault: bool = False
) -> Proposal:
    """Say what to offer for an incident.

    Parameters
    ----------
    policy
        The model's policy: strategies are offered in its order, and only those.
    verdict
        The latest alarm.
    onset_lumisection
        First lumisection of the episode; retraining uses data from here on.
    firmware_fault
        The firmware differs from its emulator. New weights would only hide that: the same package is loaded
        again instead, whatever strategies the policy lists.
    """
    if firmware_fault:
        return _proposal(
            policy,
            verdict,
            onset_lumisection,
            kind="reload",
            summary=(
                f"{verdict.model}: load package {verdict.package[:12]} onto the board once more, prove it by "
                f"its golden vectors, check {policy.verify_lumisections} lumisections against the emulator. "
                "Nothing is retrained: the firmware is at fault, not the model."
            ),
            options=(
                Option(
                    strategy=RELOAD,
                    text="Write the same weights once more and switch to them; the network stays as it is.",
                    default=True,
                ),
            ),
        )
    options = [
        Option(
            strategy=LEAST_INVASIVE,
            text="Try the strategies from the least invasive on; take the first that passes.",
            default=True,
        )
    ]
    options += [Option(strategy=name, text=_STRATEGY_TEXT[name]) for name in policy.strategies]
    return _proposal(
        policy,
        verdict,
        onset_lumisection,
        kind="retrain",
        summary=(
            f"{verdict.model}: retrain on run {verdict.run} from lumisection {onset_lumisection} on, "
            "prove it bit by bit, load the weights, "
            f"verify {policy.verify_lumisections} lumisections or roll back."
        ),
        options=tuple(options),
    )


def _proposal(
    policy: PolicySettings,
    verdict: Verdict,
    onset_lumisection: int,
    *,
    kind: Literal["retrain", "reload"],
    summary: str,
    options: tuple[Option, ...],
) -> Proposal:
    return Proposal(
        kind=kind,
        summary=summary,
        options=options,
        alternatives=(
            Alternative(decision="prescale_out", text=policy.prescale_instruction),
            Alternative(decision="reject", text="Leave the firmware as it is; the incident stays open."),
        ),
        approvers=policy.approvers,
        approvals_needed=policy.approvals_needed,
        hardware_approvals_needed=policy.hardware_approvals_needed,
        distinct_approvers=policy.distinct_approvers,
        escalate_after_s=policy.escalate_after_s,
        escalate_to=policy.escalate_to,
        verify_lumisections=policy.verify_lumisections,
        package=verdict.package,
        run=verdict.run,
        first_lumisection=onset_lumisection,
        last_lumisection=verdict.lumisection,
        reference_id=verdict.reference_id,
    )


def check_may_decide(proposal: Proposal, response_id: str, operator: str) -> None:
    """Refuse anyone the proposal does not list.

    Raises
    ------
    NotPermitted
        The operator may look, but not decide.
    """
    if operator not in proposal.approvers:
        raise NotPermitted(
            f"operator {operator!r} may not decide {response_id}: "
            f"ask {' or '.join(proposal.approvers)}, or add the name to policy.approvers in model.toml"
        )


def check_distinct(proposal: Proposal, response_id: str, operator: str, before: Sequence[str]) -> None:
    """Refuse who approved the response for the approval of the board, where the policy wants two people.

    Raises
    ------
    NotPermitted
        `operator` is among those who decided `before`.
    """
    if proposal.distinct_approvers and operator in before:
        others = [name for name in proposal.approvers if name not in before]
        raise NotPermitted(
            f"{operator} approved {response_id} already: its board needs somebody else "
            f"({' or '.join(others)}; policy.distinct_approvers in model.toml)"
        )


def approvals_of(proposal: Proposal, stage: DecisionStage) -> int:
    """Say how many approvals a question of a response needs."""
    if stage is DecisionStage.HARDWARE:
        return proposal.hardware_approvals_needed
    return proposal.approvals_needed


def check_choice(
    proposal: Proposal,
    kind: DecisionKind,
    strategy: str | None,
    stage: DecisionStage = DecisionStage.RESPONSE,
) -> str | None:
    """Check a decision; return the strategy it asks for, or None for "least invasive that passes".

    Raises
    ------
    InvalidChoice
        The proposal does not offer it, or a strategy was named without approving, or for the board.
    """
    if stage is DecisionStage.HARDWARE and strategy is not None:
        raise InvalidChoice("the package is built: only approve, reject or prescale out; name no strategy")
    if kind is not DecisionKind.APPROVE:
        if strategy is not None:
            raise InvalidChoice(f"a strategy goes with an approval, not with {kind.value}: leave it out")
        return None
    if strategy is None or strategy == LEAST_INVASIVE:
        return None
    offered = [option.strategy for option in proposal.options]
    if strategy not in offered:
        raise InvalidChoice(f"strategy {strategy!r} is not offered; choose one of: {', '.join(offered)}")
    return strategy


def strategies_to_try(policy: PolicySettings, requested: str | None) -> tuple[str, ...]:
    """Give the strategies for a retraining, in the order in which they are preferred."""
    return (requested,) if requested is not None else tuple(policy.strategies)


def outcome_of(
    kinds: Sequence[tuple[DecisionKind, str | None]], approvals_needed: int
) -> DecisionKind | None:
    """Say what the decisions so far amount to; None while approvals are still missing.

    One rejection or one "prescale out" decides at once; approvals are counted.
    """
    for kind, _ in kinds:
        if kind is not DecisionKind.APPROVE:
            return kind
    return DecisionKind.APPROVE if len(kinds) >= approvals_needed else None
