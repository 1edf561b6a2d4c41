"""The rate chart's numbers: accept rate against pileup in a run, with what the reference expects.

As CMS RateMon shows it. Refuses to know files, colours and plotting libraries.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streams.judging.assessment import Assessment
from streams.judging.expectation import PileupExpectation
from streams.judging.rate_chart import DEVIATIONS

Floats = npt.NDArray[np.float64]
_STEPS = 60


@dataclass(frozen=True)
class RateCurve:
    """Accept rates over pileup; rates are shares of the events, 0 to 1.

    Parameters
    ----------
    pileup, expected
        The curve of the reference, float64 of shape (n,).
    band
        Relative half width of what the chart takes for a deviation, around the curve.
    lumisections, at, rate, rate_error
        One for each window, float64 (lumisections: int) of shape (n_windows,).
    """

    pileup: Floats
    expected: Floats
    band: float
    lumisections: npt.NDArray[np.int64]
    at: Floats
    rate: Floats
    rate_error: Floats


def rate_curve(assessments: Sequence[Assessment], expectation: PileupExpectation) -> RateCurve | None:
    """Lay the windows of a run over the curve of the reference that judged them.

    Parameters
    ----------
    assessments
        Of windows with an expected rate; others are left out.
    expectation
        Of the reference that judged the last of them; at the last value of a second condition.

    Returns
    -------
    RateCurve or None
        None where no window has a rate to compare.
    """
    known = [one for one in assessments if one.judged and one.rate_error is not None and _pileup(one)]
    if not known:
        return None
    at = np.array([_pileup(one) for one in known], dtype=np.float64)
    rate = np.array([one.accept_rate for one in known])
    events = np.array([max(one.n_events, 1) for one in known])
    low, high = min([at.min(), *expectation.pileups]), max([at.max(), *expectation.pileups])
    margin = max(0.05 * (high - low), 0.5)
    grid = np.linspace(max(low - margin, 0.0), high + margin, _STEPS)
    return RateCurve(
        pileup=grid,
        expected=np.array([expectation.at(float(value)).rate for value in grid]),
        band=DEVIATIONS * float(np.median([one.rate_error or 0.0 for one in known])),
        lumisections=np.array([one.lumisection for one in known]),
        at=at,
        rate=rate,
        rate_error=np.sqrt(rate * (1 - rate) / events),
    )


def _pileup(one: Assessment) -> float:
    return float(one.pileup or 0.0) if one.pileup_fitted is None else one.pileup_fitted
