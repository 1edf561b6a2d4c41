"""The rate chart: accept rate against pileup, watched as shifters are used to from CMS RateMon.

A lumisection deviates when its rate is off what the reference expects at its pileup by 5 standard deviations
or by half, and the chart speaks at the fifth in a row. It stands beside the verdict, has no share in the
false-alarm budget, and sees stable beams only: what is not judged breaks no row and adds nothing to one.
"""

from typing import Final

from pydantic import BaseModel, ConfigDict

from streams.judging.assessment import Assessment

DEVIATIONS: Final = 5.0
RELATIVE: Final = 0.5
IN_A_ROW: Final = 5


class RateChart(BaseModel):
    """What the chart says after a window.

    Attributes
    ----------
    expected, error
        Expected accept rate at the window's pileup, and its relative standard deviation.
    deviation
        Relative deviation of the rate.
    in_a_row
        Deviating windows up to this one, in this run.
    speaks
        Enough in a row.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    expected: float
    error: float
    deviation: float
    in_a_row: int
    speaks: bool


class RateWatch:
    """Follows the accept rate of one package."""

    def __init__(self) -> None:
        self._run: int | None = None
        self._in_a_row = 0

    def update(self, assessment: Assessment) -> RateChart | None:
        """Take the next assessment; None where it holds no expected rate or is not judged."""
        a = assessment
        if not a.judged or a.expected_rate is None or a.rate_deviation is None or a.rate_error is None:
            return None
        if a.run != self._run:
            self._run, self._in_a_row = a.run, 0
        off = abs(a.rate_deviation) > min(DEVIATIONS * a.rate_error, RELATIVE)
        self._in_a_row = self._in_a_row + 1 if off else 0
        return RateChart(
            expected=a.expected_rate,
            error=a.rate_error,
            deviation=a.rate_deviation,
            in_a_row=self._in_a_row,
            speaks=self._in_a_row >= IN_A_ROW,
        )
