"""The false-alarm budget as people write and read it. Knows no statistic; refuses to know how it is kept.

Everywhere else a budget is one number: the probability that an in-control lumisection raises an alarm.
"""

import re
from typing import Final

from streams.errors import ReferenceProblem
from streams.judging.reference_header import LUMISECTIONS_PER_DAY

_NUMBER: Final = r"[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]{1,3})?|\.[0-9]+(?:[eE][-+]?[0-9]{1,3})?"
_BUDGET: Final = re.compile(
    rf"(?P<alarms>{_NUMBER})(?:\s*(?:/|per)\s*(?P<of>{_NUMBER})?\s*(?P<unit>LS|lumisections?|day|d|week))?",
    re.IGNORECASE,
)
_LUMISECTIONS: Final = {
    "d": LUMISECTIONS_PER_DAY,
    "day": LUMISECTIONS_PER_DAY,
    "week": 7 * LUMISECTIONS_PER_DAY,
}
_CURE: Final = "write it as 1/1000LS, 2/day or 0.001"
_WHOLE: Final = 10.0
"""Numbers from here on are written without decimals."""


def parse_budget(text: str) -> float:
    """Return the probability that an in-control lumisection may raise an alarm.

    Parameters
    ----------
    text
        ``1/1000LS`` (false alarms per so many lumisections), ``2/day`` or ``1/week`` (of stable beams), or
        the probability itself, ``0.001``.

    Raises
    ------
    ReferenceProblem
        It is none of these, or not between 0 and 1 for each lumisection.

    Examples
    --------
    >>> parse_budget("1/1000LS")
    0.001
    """
    found = _BUDGET.fullmatch(text.strip())
    if found is None:
        raise ReferenceProblem(f"budget '{text:.40}' is not understood: {_CURE}")
    unit = found["unit"]
    lumisections = float(found["of"] or 1) * _LUMISECTIONS.get((unit or "").lower(), 1.0)
    budget = float(found["alarms"]) / lumisections if lumisections else 0.0
    if not 0 < budget < 1:
        raise ReferenceProblem(
            f"budget '{text:.40}' is {budget:.3g} false alarms for each lumisection, and must lie between "
            f"0 and 1: {_CURE}"
        )
    return budget


def describe_budget(budget: float) -> str:
    """Return a budget for people: ``1 false alarm per 1000 lumisections (3.7 a day)``.

    Parameters
    ----------
    budget
        Probability that an in-control lumisection raises an alarm, in (0, 1).
    """
    return (
        f"1 false alarm per {_plain(1 / budget)} lumisections ({_plain(budget * LUMISECTIONS_PER_DAY)} a day)"
    )


def _plain(value: float) -> str:
    """Two digits after what matters, and never an exponent for what people count."""
    return f"{value:.0f}" if value >= _WHOLE else f"{value:.2g}"
