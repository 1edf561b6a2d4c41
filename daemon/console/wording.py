"""How the console writes numbers, times and identifiers. Pure functions; knows no pages."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from streams.judging.rate_chart import IN_A_ROW, RateChart

_SHORT = 12


def short(identity: str | None) -> str:
    """Shorten a hash to its first characters; names that people gave stay whole."""
    if identity is None:
        return "none"
    is_hash = len(identity) >= 32 and all(character in "0123456789abcdef" for character in identity)
    return identity[:_SHORT] if is_hash else identity


def percent(fraction: float | None, digits: int = 2) -> str:
    """Write a fraction as percent: ``10.24 %``."""
    return "unknown" if fraction is None else f"{100 * fraction:.{digits}f} %"


def deviation(fraction: float | None) -> str:
    """Write a relative deviation with its sign: ``+4.1 %``."""
    return "unknown" if fraction is None else f"{100 * fraction:+.1f} %"


def evidence_words(evidence: float | None, suspects: Sequence[str]) -> str:
    """Write the evidence of drift: ``0.031 of an alarm's level; suspects: jet gain``."""
    if evidence is None:
        return "none: nothing is judged"
    level = f"{10**evidence:.2g}" if evidence < 3 else f"10^{evidence:.0f}"
    words = f"{level} {'times' if evidence >= 0 else 'of'} an alarm's level"
    return f"{words}; suspects: {', '.join(suspects)}" if suspects else words


def rate_chart_words(chart: RateChart | None) -> str:
    """Write what the rate chart says: ``2 of 5 in a row deviate``."""
    if chart is None:
        return "no expected rate"
    row = f"{chart.in_a_row} in a row deviate" if chart.in_a_row else "within its band"
    return f"speaks: {row}; this is no alarm" if chart.speaks else f"{row}, speaks at {IN_A_ROW}"


def clock(moment: datetime | None) -> str:
    """Write the time of day in UTC: ``03:12:45``."""
    return "" if moment is None else f"{moment:%H:%M:%S}"


def date_and_clock(moment: datetime | None) -> str:
    """Write date and time in UTC: ``2026-07-01 03:12:45 UTC``."""
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def age(moment: datetime, now: datetime, *, step_s: int = 1) -> str:
    """Tell how long ago, in the largest sensible unit: ``12 s``, ``4 min``, ``3 h``, ``2 d``.

    Parameters
    ----------
    step_s
        Seconds are rounded down to multiples of it: what is shown changes less often.
    """
    return duration_words(now - moment, step_s=step_s)


def duration_words(time: timedelta, *, step_s: int = 1) -> str:
    """Write a time in the largest sensible unit; `step_s` as of `age`."""
    seconds = max(time.total_seconds(), 0.0)
    if seconds < 100:
        return f"{seconds // step_s * step_s:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} d"


def duration(start: datetime | None, end: datetime | None) -> str:
    """Tell how long something took: ``8.4 s``, ``2 min 05 s``; empty while unknown."""
    if start is None or end is None:
        return ""
    seconds = (end - start).total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"


def lumisections(first: int, last: int) -> str:
    """Write a range: ``61`` or ``61 to 63``."""
    return str(first) if first == last else f"{first} to {last}"
