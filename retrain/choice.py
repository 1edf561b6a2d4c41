"""The choice: the least invasive strategy whose candidate meets the criteria on events it has not seen.

Refuses to know how strategies work, where events came from and who approves.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hw.network import FirmwareModel
from retrain.errors import ContractMismatch, EncoderMismatch
from retrain.evaluate import Criteria, Evaluation, Expectation, evaluate
from retrain.gain import GainSettings
from retrain.messages import StrategyOutcome
from retrain.selection import Selection
from retrain.strategies import Material, Proposal, Strategy
from retrain.train_settings import Progress, no_progress


@dataclass(frozen=True)
class Choice:
    """The chosen candidate and how it came to it.

    Parameters
    ----------
    baseline
        The unchanged firmware on the same held-out events.
    outcomes
        Of the strategies tried, in order.
    chosen
        Name of the first strategy that passed, or None.
    model
        Its candidate, or None.
    """

    baseline: Evaluation
    outcomes: tuple[StrategyOutcome, ...]
    chosen: str | None
    model: FirmwareModel | None

    @property
    def reason(self) -> str:
        """One sentence on the result."""
        if self.chosen is not None:
            return f"{self.chosen} meets the criteria and is the least invasive of those tried that does"
        if not self.outcomes:
            return "the firmware meets the criteria on the recent events as it is: nothing to retrain"
        return "no strategy meets the criteria: " + "; ".join(
            f"{outcome.strategy}: {outcome.reason}" for outcome in self.outcomes
        )


def choose(
    model: FirmwareModel,
    selection: Selection,
    strategies: Sequence[Strategy],
    *,
    criteria: Criteria,
    gain: GainSettings | None = None,
    seed: int = 1,
    threads: int = 1,
    try_all: bool = False,
    progress: Progress = no_progress,
) -> Choice:
    """Try strategies in the order given until one passes.

    Parameters
    ----------
    model
        The firmware on the board.
    selection
        Events to tune on and to judge with.
    strategies
        The least invasive first.
    criteria
        What a candidate must reach.
    gain
        When a gain counts.
    seed, threads
        Of everything random, and of torch.
    try_all
        Go on after one passed, and even when nothing is wrong, to compare strategies.
    progress
        Called while strategies work.

    Raises
    ------
    ContractMismatch
        When model and events have different contracts.
    """
    if model.contract_hash != selection.contract.hash:
        raise ContractMismatch(
            f"model {model.name} was made under contract {model.contract_hash[:12]}, the events under "
            f"{selection.contract.hash[:12]}: use events of the model's contract"
        )
    expectation = Expectation.of(model, selection.reference, selection.recent.held_out)
    baseline = evaluate(model, expectation, criteria)
    if baseline.passed and not try_all:
        return Choice(baseline, (), None, None)
    material = Material(
        model=model, contract=selection.contract, reference=selection.reference,
        recent=selection.recent.train, seed=seed, gain=gain or GainSettings(), threads=threads,
    )  # fmt: skip
    outcomes: list[StrategyOutcome] = []
    chosen, candidate = None, None
    for number, strategy in enumerate(strategies):
        part = _part_of(progress, number, len(strategies), strategy.name)
        outcome, proposed = _try(strategy, material, expectation, criteria, part)
        outcomes.append(outcome)
        if outcome.passed and chosen is None:
            chosen, candidate = strategy.name, proposed
        if chosen is not None and not try_all:
            break
    return Choice(baseline, tuple(outcomes), chosen, candidate)


def _try(
    strategy: Strategy,
    material: Material,
    expectation: Expectation,
    criteria: Criteria,
    progress: Progress,
) -> tuple[StrategyOutcome, FirmwareModel | None]:
    started = time.perf_counter()
    try:
        proposal = strategy.propose(material, progress)
    except EncoderMismatch as error:
        proposal = Proposal(None, str(error))
    if proposal.model is None:
        return StrategyOutcome(
            strategy=strategy.name, offered=False, passed=False, reason=proposal.reason,
            gains=list(proposal.gains), seconds=time.perf_counter() - started,
        ), None  # fmt: skip
    evaluation = evaluate(proposal.model, expectation, criteria)
    segments, words = difference(material.model, proposal.model)
    outcome = StrategyOutcome(
        strategy=strategy.name, offered=True, passed=evaluation.passed,
        reason="; ".join([proposal.reason, *evaluation.reasons]), evaluation=evaluation,
        segments_changed=segments, words_changed=words, gains=list(proposal.gains),
        seconds=time.perf_counter() - started,
    )  # fmt: skip
    return outcome, proposal.model


def difference(old: FirmwareModel, new: FirmwareModel) -> tuple[list[str], int]:
    """Name the segments in which two models of one structure differ, and count the words that do.

    Raises
    ------
    EncoderMismatch
        When the structures differ.
    """
    if old.shell_hash != new.shell_hash or old.parameter_segments() != new.parameter_segments():
        raise EncoderMismatch(
            f"the candidate of {old.name} has another structure than the firmware: "
            "a strategy may change words only"
        )
    changed = old.parameters() != new.parameters()
    names = [s.name for s in old.parameter_segments() if bool(changed[s.start : s.stop].any())]
    return names, int(np.count_nonzero(changed))


def _part_of(progress: Progress, number: int, total: int, name: str) -> Progress:
    """Make a progress that covers one strategy's share."""

    def report(fraction: float, message: str) -> None:
        progress((number + min(max(fraction, 0.0), 1.0)) / total, f"{name}: {message}")

    return report
