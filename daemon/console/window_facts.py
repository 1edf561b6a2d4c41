"""What is known of one judged window, as rows of words. Pure; knows no pages and no database."""

from daemon.console.wording import (
    date_and_clock,
    deviation,
    evidence_words,
    percent,
    rate_chart_words,
    short,
)
from daemon.store import views


def window_facts(verdict: views.VerdictView, *, rated: bool) -> list[tuple[str, str]]:
    """List quantities of a window with their values.

    Parameters
    ----------
    rated
        Whether firmware runs the model: histograms have neither rate nor integrity.
    """
    rate = f"{percent(verdict.accept_rate)}, expected {percent(verdict.expected_rate)}"
    firmware = [
        ("accept rate", f"{rate} ({deviation(verdict.rate_deviation)})"),
        ("rate chart", rate_chart_words(verdict.rate_chart)),
        ("integrity", _integrity(verdict)),
        ("package", short(verdict.package)),
    ]
    return [
        ("evidence", evidence_words(verdict.evidence, verdict.suspects)),
        ("events" if rated else "entries of the fullest histogram", f"{verdict.n_events:,}"),
        *(firmware if rated else []),
        ("reference", short(verdict.reference_id)),
        ("judged", f"{date_and_clock(verdict.received_at)}, {_delay(verdict)}"),
    ]


def _integrity(verdict: views.VerdictView) -> str:
    """Say how the firmware agrees with its emulator."""
    result = verdict.integrity
    if result is None or result.ratio is None:
        return "not checked: no emulator of this package at the worker"
    interval = f"{result.ratio:.2g}, 95 % interval {result.low:.1g} to {result.high:.1g}"
    return f"{result.words} ({interval}, tolerated {result.tolerance:g})"


def _delay(verdict: views.VerdictView) -> str:
    """Say how long after its lumisection the verdict came, and what came later still."""
    if verdict.delay_s is None:
        words = "the end of the lumisection was not announced"
    else:
        words = f"{verdict.delay_s:.1f} s after the lumisection{', late' if verdict.late else ''}"
    return f"{words}; {verdict.late_events:,} late events" if verdict.late_events else words
