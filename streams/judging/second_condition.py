"""The second condition of lumisections: read off what was told of them, checked, and cut into strata.

Says what is wrong with values of which no strata can be made. Knows no calibration and no window.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter, ValidationError

from streams.conditions import LARGEST_VALUE, ConditionName, Conditions
from streams.counting.summary import Summary
from streams.errors import ReferenceProblem
from streams.judging.reference_header import in_words
from streams.judging.strata import MINIMUM_STRATUM_LUMISECTIONS, Strata, cut, stratified

_NAME: Final[TypeAdapter[str]] = TypeAdapter(ConditionName)


@dataclass(frozen=True)
class SecondCondition:
    """What an expectation follows besides the pileup.

    Attributes
    ----------
    name
        As in `streams.conditions.Conditions.values`, for example ``bunches``.
    values
        One for each lumisection.
    """

    name: str
    values: Sequence[float]


def second_condition(name: str | None, conditions: Sequence[Conditions]) -> SecondCondition | None:
    """Read a second condition off the conditions of lumisections; None where no name is given.

    A value that is not told is NaN, which `build_reference` refuses.
    """
    if name is None:
        return None
    return SecondCondition(name, [one.values.get(name, float("nan")) for one in conditions])


def learnt_strata(second: SecondCondition, summaries: Sequence[Summary], pileups: Sequence[float]) -> Strata:
    """Sort the lumisections of a reference into strata.

    Raises
    ------
    ReferenceProblem
        The name is none, values are missing or absurd, or a few lumisections are far from all others.
    """
    _check(second, len(summaries))
    groups, alone = cut(second.values)
    if alone:
        few = ", ".join(f"{value:.6g}" for value in sorted({second.values[index] for index in alone})[:4])
        raise ReferenceProblem(
            f"{len(alone)} lumisections of {in_words(second.name)} {few} are far from all others, and too "
            f"few for a stratum: leave them out, or give {MINIMUM_STRATUM_LUMISECTIONS} or more there"
        )
    return stratified(summaries, pileups, second.values, groups)


def told_strata(
    name: str,
    summaries: Sequence[Summary],
    pileups: Sequence[float],
    values: Sequence[float | None],
) -> tuple[Strata, list[int]]:
    """Sort the windows that tell a condition into strata; few that are far from all others are left out.

    Returns
    -------
    The strata, and the positions of the windows that are in them.

    Raises
    ------
    ReferenceProblem
        No window tells it.
    """
    known = {
        index: value
        for index, value in enumerate(values)
        if value is not None and abs(value) <= LARGEST_VALUE
    }
    if not known:
        raise ReferenceProblem(
            f"the conditions of no window name {in_words(name)}, which the reference follows: "
            "build and approve a new reference instead"
        )
    groups, _ = cut(list(known.values()))
    told = [[list(known)[index] for index in group] for group in groups]
    filled = [known.get(index, 0.0) for index in range(len(summaries))]
    return stratified(summaries, pileups, filled, told), [index for group in told for index in group]


def _check(second: SecondCondition, n_lumisections: int) -> None:
    try:
        _NAME.validate_python(second.name)
    except ValidationError as error:
        raise ReferenceProblem(
            f"a condition cannot be named '{second.name:.40}': give small letters, digits and underscores, "
            "32 at most, with a letter first"
        ) from error
    if len(second.values) != n_lumisections:
        raise ReferenceProblem(
            f"{n_lumisections} lumisections with {len(second.values)} values of {second.name}: "
            "give one for each"
        )
    if not all(abs(value) <= LARGEST_VALUE for value in second.values):  # NaN is not, either
        raise ReferenceProblem(
            f"a lumisection has no value of {second.name}, or one beyond {LARGEST_VALUE:g}: leave it out, or "
            "give its conditions"
        )
