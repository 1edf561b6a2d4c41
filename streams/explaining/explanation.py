"""The explanation: the simplest story that accounts for what a window shows, as data and as one sentence.

Every cause of `streams.explaining.causes` is applied to the expected counts, and the one that takes most from
the deviance of the window, less a penalty for each number it was fitted with (Schwarz, Ann. Statist. 6 (1978)
461), is told. It explains a verdict and decides none: where no cause accounts for enough, it says so.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from streams.contracts.contract import Contract
from streams.counting.summary import Summary
from streams.explaining.causes import Candidate, Cause, Place, Scene
from streams.explaining.goodness import Goodness
from streams.explaining.object_causes import causes_of_object, pileup_mismatch
from streams.explaining.wire_causes import causes_of_wires
from streams.judging.assessment import Assessment
from streams.judging.channels import RATE, SCORE
from streams.judging.expectation import PileupExpectation
from streams.judging.findings import ChannelFinding, ExtremeFinding
from streams.judging.pairs import CORRELATIONS, SWAPPED
from streams.judging.words import describe_suspect

LEAST_GAIN: Final = 8.0
"""A cause must take so much from the deviance, beyond its penalty; less is seen in windows in control."""
LEAST_SHARE: Final = 0.4
"""A cause that accounts for less of what is seen is not the story."""
STRANGE: Final = 3.0
"""Deviations of an input's deviance from which on its object is looked at."""
CLOSE: Final = 6.0
"""Another cause that takes nearly as much is named too."""
SURE: Final = 1e-6
"""So rare in control that a swap is told though no verdict names it yet."""
_OUTPUT: Final = frozenset({SCORE, RATE})


Finding = ChannelFinding | ExtremeFinding


class Story(BaseModel):
    """What most likely happened.

    Attributes
    ----------
    sentence
        For a shifter.
    object, inputs
        What it is about: a kind of object, names of inputs; empty where it is about neither.
    size, error, unit
        Of the effect: a gain is a factor, a tail or noise a share of the events, a number of objects a
        relative change. None where it has none.
    place
        Where in eta and phi; None if anywhere.
    explained
        Part of what is seen in the window that it accounts for, 0 to 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cause: Cause
    sentence: str
    object: str = ""
    inputs: tuple[str, ...] = ()
    size: float | None = None
    error: float | None = None
    unit: str = ""
    place: Place | None = None
    explained: float = 0.0


class _Ranked(NamedTuple):
    candidate: Candidate
    gain: float
    """What it takes from the deviance, less its penalty."""
    explained: float


def explain(
    assessment: Assessment,
    window: Summary,
    expectation: PileupExpectation | None,
    contract: Contract,
    *,
    suspects: Sequence[str] = (),
    firmware_fault: bool = False,
) -> Story:
    """Tell the simplest story of a window.

    Parameters
    ----------
    assessment
        Of the window.
    window
        At least one event.
    expectation
        Of the reference it was judged against; None: only a firmware fault can be told.
    contract
        Of the model.
    suspects
        Channels that the verdict names: where the window alone shows too little, the story is theirs.
    firmware_fault
        The firmware is known to differ from its emulator.
    """
    if firmware_fault and assessment.integrity is not None:
        return Story(
            cause=Cause.INTEGRITY,
            sentence=f"The firmware answers other than its emulator: {assessment.integrity.words}. "
            "The inputs are not to blame.",
        )
    known = assessment.pileup if assessment.pileup_fitted is None else assessment.pileup_fitted
    newer = assessment.reference_package not in {None, assessment.package}
    if expectation is None or known is None or newer or window.layout != expectation.layout:
        return _from_findings(assessment, suspects)
    scene = Scene(contract, window, expectation, known, assessment.pileup or known, expectation.at(known))
    plain = _ranked(scene, scene.fine, causes_of_wires(scene))
    if plain and plain[0].gain >= LEAST_GAIN:
        return _told(plain[0])
    ranked = _ranked(scene, scene.goodness, _candidates(scene, assessment, suspects))
    told = bool(ranked) and ranked[0].gain >= _least_gain(ranked[0].candidate, assessment, suspects)
    if not told or ranked[0].explained < LEAST_SHARE:
        swapped = next((one for one in assessment.extremes if one.name == SWAPPED), None)
        if swapped is not None and (swapped.name in suspects or swapped.p_value < SURE):
            return _swapped(swapped)
    if not told:
        return _from_findings(assessment, suspects)
    best = ranked[0]
    if best.explained < LEAST_SHARE:
        return Story(
            cause=Cause.NONE,
            sentence=f"No simple story: the best would explain {best.explained:.0%} of what is seen: "
            f"{best.candidate.sentence}.",
            explained=best.explained,
        )
    return _told(best, next((one for one in ranked if one.candidate.cause is not best.candidate.cause), None))


def _least_gain(best: Candidate, assessment: Assessment, suspects: Sequence[str]) -> float:
    """Return what a cause must take beyond its penalty: nothing where suspects name its object already."""
    findings: list[Finding] = [*assessment.channels, *assessment.extremes]
    named = {one.object for one in findings if one.name in suspects and one.object}
    return 0.0 if best.object in named else LEAST_GAIN


def _candidates(scene: Scene, assessment: Assessment, suspects: Sequence[str]) -> Iterator[Candidate]:
    findings: list[Finding] = [*assessment.channels, *assessment.extremes]
    exceeded = set(assessment.exceeded_families)
    telling = {
        one.object
        for one in findings
        if one.name in suspects or (one.family in exceeded and one.p_value < 1e-3)
    }
    strange = np.flatnonzero(scene.goodness.excess(scene.base) > STRANGE)
    telling |= {scene.contract.inputs[index].object for index in strange}
    yield from pileup_mismatch(scene)
    for group in scene.contract.objects:
        if group.name in telling:
            yield from causes_of_object(scene, group.name)


def _ranked(scene: Scene, goodness: Goodness, candidates: Iterator[Candidate]) -> list[_Ranked]:
    without, excess = goodness.deviance(scene.base), goodness.unexplained(scene.base)
    penalty = float(np.log(goodness.n_groups + len(scene.base.maps) + 1))
    ranked = []
    for one in candidates:
        taken = without - goodness.deviance(one.densities)
        explained = min(max(taken / max(excess, taken, 1e-9), 0.0), 1.0)
        ranked.append(_Ranked(one, taken - penalty * one.n_parameters, explained))
    return sorted(ranked, key=lambda each: -each.gain)


def _told(best: _Ranked, next_best: _Ranked | None = None) -> Story:
    one, close = best.candidate, ""
    if next_best is not None and best.gain - next_best.gain < CLOSE:
        close = f" Nearly as good: {next_best.candidate.sentence}."
    return Story(
        cause=one.cause,
        sentence=f"{one.sentence}.{close}",
        object=one.object,
        inputs=one.inputs,
        size=one.size,
        error=one.error,
        unit=one.unit,
        place=one.place,
        explained=best.explained,
    )


def _swapped(found: ExtremeFinding) -> Story:
    """Tell a swap that only correlations show: both inputs look alike."""
    return Story(
        cause=Cause.SWAP,
        sentence=f"{found.place.replace(', ', ' and ')} are swapped in {found.effect:.0%} of the events: "
        "each goes together with the others as the other should.",
        inputs=tuple(sorted(found.place.split(", "))),
        size=found.effect,
    )


def _from_findings(assessment: Assessment, suspects: Sequence[str]) -> Story:
    """Tell what findings alone allow: the output differs while the inputs do not, or what tells most."""
    findings: list[Finding] = [*assessment.channels, *assessment.extremes]
    families = {one.family for one in findings if one.name in suspects} or set(assessment.exceeded_families)
    words = [describe_suspect(assessment, name) for name in suspects]
    if families and families <= _OUTPUT:
        seen = "; ".join(filter(None, words)) or "score and rate differ"
        return Story(
            cause=Cause.OUTPUT,
            sentence=f"Only what the firmware says has changed, while its inputs look as they did: {seen}. "
            "Look at model, threshold and prescales first.",
        )
    said = "; ".join(filter(None, words))
    pair = next((one for one in assessment.extremes if one.name in suspects and one.place), None)
    if pair is not None and families == {CORRELATIONS}:
        return Story(
            cause=Cause.PAIR,
            sentence=f"Each input looks as it did, but not how they go together: {said}. "
            "Suspect cables, the order of objects, or timing between subsystems.",
            inputs=tuple(pair.place.split(", ")),
        )
    if not said:
        return Story(cause=Cause.NONE, sentence="No simple story.")
    return Story(cause=Cause.FAINT, sentence=f"Little in one window, much in many: {said} in this one.")
