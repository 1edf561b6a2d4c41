"""The plots of the console, as Plotly figures in plain dictionaries. Pure; knows no pages and no database.

All plots over lumisections share their horizontal axis and margins, so that one column means one lumisection
from the top of a page to its bottom.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from daemon.console.chart_style import CONFIG, Figure, axis, faded, layout
from daemon.console.looks import VERDICTS, Palette
from daemon.console.wording import deviation, percent, short
from daemon.incidents.silencing import FAMILIES
from daemon.store import views
from streams.judging.assessment import Assessment
from streams.judging.track import WARNING_SHARE

LOWEST_EVIDENCE, HIGHEST_EVIDENCE = -4.0, 10.0
"""Evidence beyond these, in decades from an alarm's level, is drawn there."""
WARNING_EVIDENCE = math.log10(WARNING_SHARE)
MOST_SYMBOLS: Final = 120
"""Lines of more points have no symbols: they would hide each other."""
_SYMBOLS: Final = (
    "circle",
    "triangle-down",
    "triangle-up",
    "pentagon",
    "diamond",
    "square",
    "star",
    "hourglass",
    "hexagon",
    "cross",
    "triangle-right",
    "bowtie",
)
"""One for each family, in the order of `FAMILIES`: tints repeat, symbols do not."""


def tone_colour(tone: str, colours: Palette) -> str:
    """Colour of a state's tone in a plot."""
    return {"good": colours.good, "warning": colours.warning, "alarm": colours.alarm}.get(tone, colours.quiet)


def timeline(
    verdicts: Sequence[views.VerdictView],
    assessments: Sequence[Assessment],
    *,
    band: float | None,
    colours: Palette,
) -> Figure:
    """Verdicts, accept rate, evidence of drift and significance of the families over lumisections.

    Parameters
    ----------
    verdicts, assessments
        Of one run, oldest first.
    band
        Relative half width of the tolerated band around the expected accept rate; None where there is no
        rate.
    colours
        Dark or light.
    """
    changes = package_changes(verdicts)
    rated = band is not None
    return {
        "data": [
            *_verdict_marks(verdicts, colours),
            *(_rate_lines(verdicts, band, colours) if band is not None else ()),
            _evidence_line(verdicts, colours),
            *_family_lines(assessments, colours),
        ],
        "layout": {
            **layout(colours, height=760 if rated else 600),
            "xaxis": axis(colours, title="lumisection", anchor="y4", range=span(verdicts)),
            "yaxis": axis(colours, domain=[0.96, 1.0], visible=False, range=[-0.5, 0.5], fixedrange=True),
            "yaxis2": axis(colours, title="accept rate [%]", domain=[0.66, 0.93], visible=rated),
            "yaxis3": axis(
                colours,
                title="evidence / alarm level",
                domain=[0.34, 0.60] if rated else [0.54, 0.93],
                **_decades(verdicts),
            ),
            "yaxis4": axis(
                colours,
                title="family / threshold",
                domain=[0.0, 0.28 if rated else 0.46],
                rangemode="tozero",
            ),
            "shapes": [
                *(vertical(x, colours) for x, _ in changes),
                _horizontal("y3", 0.0, colours.alarm, "dash"),
                _horizontal("y3", WARNING_EVIDENCE, colours.warning, "dot"),
                _horizontal("y4", 1.0, colours.alarm, "dash"),
            ],
            "annotations": [
                *(_package_note(x, package, colours) for x, package in changes),
                _level_note(0.0, "alarm", colours.alarm),
                _level_note(WARNING_EVIDENCE, "warning", colours.warning),
            ],
            "legend": {
                "orientation": "h",
                "x": 0,
                "y": -0.09 if rated else -0.12,
                "yanchor": "top",
                "font": {"color": colours.ink, "size": 13},
            },
        },
        "config": CONFIG,
    }


def span(verdicts: Sequence[views.VerdictView]) -> list[float]:
    """Range of the horizontal axis that plots over the same verdicts share."""
    numbers = [verdict.lumisection for verdict in verdicts]
    return [min(numbers) - 0.7, max(numbers) + 0.7] if numbers else [0.0, 1.0]


def package_changes(verdicts: Sequence[views.VerdictView]) -> list[tuple[float, str]]:
    """Where another firmware package took over: position between two lumisections, and its id."""
    changes: list[tuple[float, str]] = []
    seen: set[str] = set()
    previous: views.VerdictView | None = None
    for verdict in verdicts:
        if verdict.package not in seen:
            seen.add(verdict.package)
            if previous is not None:
                first = verdict.lumisection
                changes.append((first if previous.lumisection == first else first - 0.5, verdict.package))
        previous = verdict
    return changes


def _verdict_marks(verdicts: Sequence[views.VerdictView], colours: Palette) -> list[Figure]:
    traces = []
    for state, look in VERDICTS.items():
        chosen = [verdict for verdict in verdicts if verdict.state == state]
        if chosen:
            traces.append(
                {
                    "type": "bar",
                    "x": [verdict.lumisection for verdict in chosen],
                    "y": [1.0] * len(chosen),
                    "base": -0.5,
                    "width": 0.9,
                    "name": look.word.lower(),
                    "yaxis": "y",
                    "marker": {
                        "color": tone_colour(look.tone, colours),
                        "pattern": {
                            "shape": _pattern(state),
                            "fillmode": "overlay",
                            "fgcolor": colours.ground,
                            "size": 6,
                        },
                    },
                    "customdata": [[verdict.reason, short(verdict.package)] for verdict in chosen],
                    "hovertemplate": f"LS %{{x}}: {look.word}<br>%{{customdata[0]}}"
                    "<br>package %{customdata[1]}"
                    "<extra></extra>",
                }
            )
    return traces


def _pattern(state: str) -> str:
    return {"alarm": "/", "warning": ".", "good": ""}.get(state, "x")


def _rate_lines(verdicts: Sequence[views.VerdictView], band: float, colours: Palette) -> list[Figure]:
    known = [verdict for verdict in verdicts if verdict.accept_rate is not None]
    judged = [verdict for verdict in known if verdict.expected_rate is not None]
    xs = [verdict.lumisection for verdict in judged]
    expected = [100 * (verdict.expected_rate or 0.0) for verdict in judged]
    edge = {
        "type": "scatter",
        "mode": "lines",
        "x": xs,
        "yaxis": "y2",
        "hoverinfo": "skip",
        "line": {"width": 0},
    }
    return [
        {**edge, "y": [value * (1 - band) for value in expected], "showlegend": False},
        {
            **edge,
            "y": [value * (1 + band) for value in expected],
            "fill": "tonexty",
            "fillcolor": faded(colours.reference, 0.18),
            "name": f"expected \u00b1{100 * band:.0f} %",
        },
        {
            "type": "scatter",
            "mode": "lines",
            "x": xs,
            "y": expected,
            "yaxis": "y2",
            "name": "expected",
            "line": {"color": colours.reference, "width": 2},
            "hoverinfo": "skip",
        },
        {
            "type": "scatter",
            "mode": "markers",
            "x": [verdict.lumisection for verdict in known],
            "y": [round(100 * (verdict.accept_rate or 0.0), 3) for verdict in known],
            "yaxis": "y2",
            "name": "accept rate",
            "error_y": {
                "type": "data",
                "array": [_binomial_error(verdict) for verdict in known],
                "thickness": 1,
                "width": 0,
                "color": colours.window,
            },
            "marker": {"color": colours.window, "size": 6 if len(known) <= MOST_SYMBOLS else 4},
            "customdata": [
                [percent(verdict.expected_rate), deviation(verdict.rate_deviation)] for verdict in known
            ],
            "hovertemplate": "LS %{x}: %{y:.2f} %<br>expected %{customdata[0]}, %{customdata[1]}"
            "<extra></extra>",
        },
    ]


def _binomial_error(verdict: views.VerdictView) -> float:
    rate, n = verdict.accept_rate or 0.0, max(verdict.n_events, 1)
    return round(100.0 * math.sqrt(max(rate * (1.0 - rate), 0.0) / n), 3)


def _evidence_line(verdicts: Sequence[views.VerdictView], colours: Palette) -> Figure:
    known = [verdict for verdict in verdicts if verdict.evidence is not None]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [verdict.lumisection for verdict in known],
        "y": np.clip(
            [verdict.evidence or 0.0 for verdict in known], LOWEST_EVIDENCE, HIGHEST_EVIDENCE
        ).tolist(),
        "yaxis": "y3",
        "name": "evidence",
        "line": {"color": colours.ink, "width": 1.5},
        "marker": {
            "size": 6,
            "color": [tone_colour(VERDICTS[verdict.state].tone, colours) for verdict in known],
        },
        "customdata": [[", ".join(verdict.suspects) or "none", verdict.evidence] for verdict in known],
        "hovertemplate": "LS %{x}: evidence 10<sup>%{customdata[1]:.1f}</sup> of an alarm's level"
        "<br>suspects: %{customdata[0]}<extra></extra>",
    }


def _decades(verdicts: Sequence[views.VerdictView]) -> Figure:
    """Label the axis of the evidence with powers of ten."""
    highest = min(max([1.0, *(verdict.evidence or 0.0 for verdict in verdicts)]), HIGHEST_EVIDENCE)
    ticks = [int(LOWEST_EVIDENCE), int(LOWEST_EVIDENCE / 2), *range(0, int(highest) + 1, 2)]
    return {
        "range": [LOWEST_EVIDENCE - 0.3, highest + 0.5],
        "tickvals": ticks,
        "ticktext": [f"10<sup>{power}</sup>" if power else "1" for power in ticks],
    }


def _family_lines(assessments: Sequence[Assessment], colours: Palette) -> list[Figure]:
    series: dict[str, list[tuple[int, float]]] = {}
    for one in assessments:
        for family in one.families:
            if family.threshold > 0:
                series.setdefault(family.name, []).append((one.lumisection, family.value / family.threshold))
    return [
        {
            "type": "scatter",
            "mode": "lines+markers" if len(points) <= MOST_SYMBOLS else "lines",
            "x": [x for x, _ in points],
            "y": [round(y, 3) for _, y in points],
            "yaxis": "y4",
            "name": name,
            "line": {"color": _tint(name, colours), "width": 1.5},
            "marker": {"symbol": symbol_of(name), "size": 7},
            "hovertemplate": f"LS %{{x}}: {name} at %{{y:.2f}} of its threshold<extra></extra>",
        }
        for name, points in series.items()
    ]


def symbol_of(family: str) -> str:
    """Name, in Plotly's words, the symbol of a family's line."""
    return _SYMBOLS[FAMILIES.index(family)] if family in FAMILIES else "x"


def _tint(family: str, colours: Palette) -> str:
    place = FAMILIES.index(family) if family in FAMILIES else 0
    return colours.series[place % len(colours.series)]


def _horizontal(axis_name: str, value: float, colour: str, dash: str) -> Figure:
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "yref": axis_name,
        "y0": value,
        "y1": value,
        "line": {"color": colour, "width": 2, "dash": dash},
    }


def _level_note(value: float, word: str, colour: str) -> Figure:
    return {
        "x": 1.0,
        "xref": "paper",
        "xanchor": "right",
        "y": value,
        "yref": "y3",
        "yanchor": "bottom" if value >= 0 else "top",
        "showarrow": False,
        "text": word,
        "font": {"color": colour, "size": 13},
    }


def vertical(x: float, colours: Palette) -> Figure:
    """Draw a dotted line from top to bottom: where something changed."""
    return {
        "type": "line",
        "x0": x,
        "x1": x,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": colours.ink, "width": 2, "dash": "dot"},
    }


def _package_note(x: float, package: str, colours: Palette) -> Figure:
    return {
        "x": x,
        "y": 0.935,
        "yref": "paper",
        "yanchor": "top",
        "xanchor": "left",
        "showarrow": False,
        "text": f" package {short(package)}",
        "font": {"color": colours.ink, "size": 13},
    }
