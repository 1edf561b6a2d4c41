"""The plots of the console, as Plotly figures in plain dictionaries. Pure; knows no pages and no database.

All plots over lumisections share their horizontal axis and margins, so that one column means one lumisection
from the top of a page to its bottom.
"""

from collections.abc import Sequence

import numpy as np

from daemon import views
from daemon.alerts.evidence import HeatMap
from daemon.console.chart_style import CONFIG, Figure, axis, faded, layout
from daemon.console.looks import VERDICTS, Palette
from daemon.console.wording import deviation, percent, short
from streams.judging.assessment import Assessment

_FAMILY_SYMBOLS = {"inputs": "circle", "score": "diamond", "rate": "square"}


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
    """Verdicts, accept rate and significance of the families over lumisections.

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
    return {
        "data": [
            *_verdict_marks(verdicts, colours),
            *(_rate_lines(verdicts, band, colours) if band is not None else ()),
            *_family_lines(assessments, colours),
        ],
        "layout": {
            **layout(colours, height=560),
            "xaxis": axis(colours, title="lumisection", anchor="y3", range=span(verdicts)),
            "yaxis": axis(colours, domain=[0.94, 1.0], visible=False, range=[-0.5, 0.5], fixedrange=True),
            "yaxis2": axis(colours, title="accept rate [%]", domain=[0.40, 0.90], visible=band is not None),
            "yaxis3": axis(
                colours,
                title="value / threshold",
                domain=[0.0, 0.90 if band is None else 0.32],
                rangemode="tozero",
            ),
            "shapes": [
                *(_vertical(x, colours) for x, _ in changes),
                {
                    "type": "line",
                    "xref": "paper",
                    "x0": 0,
                    "x1": 1,
                    "yref": "y3",
                    "y0": 1,
                    "y1": 1,
                    "line": {"color": colours.alarm, "width": 2, "dash": "dash"},
                },
            ],
            "annotations": [_package_note(x, package, colours) for x, package in changes],
            "legend": {
                "orientation": "h",
                "x": 0,
                "y": -0.13,
                "yanchor": "top",
                "font": {"color": colours.ink, "size": 13},
            },
        },
        "config": CONFIG,
    }


def heat_map(data: HeatMap, verdicts: Sequence[views.VerdictView], colours: Palette) -> Figure:
    """Distance of every input from its reference, over lumisections.

    Parameters
    ----------
    data
        As the evidence gives it.
    verdicts
        Of the same run: where the package changes is marked.
    colours
        Dark or light.
    """
    columns = [str(number) for number in data.lumisections]
    top = max(0.05, float(np.nanmax(data.distance, initial=0.0)))
    changes = package_changes(verdicts)
    return {
        "data": [
            {
                "type": "heatmap",
                "x": list(data.lumisections),
                "y": list(data.inputs),
                "z": np.round(data.distance, 4).tolist(),
                "zmin": 0.0,
                "zmax": top,
                "colorscale": [list(step) for step in colours.scale],
                "hovertemplate": "%{y}<br>LS %{x}<br>KS distance %{z:.3f}<extra></extra>",
                "colorbar": {
                    "orientation": "h",
                    "x": 0,
                    "xanchor": "left",
                    "y": 1.0,
                    "yanchor": "bottom",
                    "len": 0.4,
                    "thickness": 12,
                    "outlinewidth": 0,
                    "title": {"text": "KS distance", "side": "right"},
                    "tickfont": {"color": colours.ink},
                },
            }
        ],
        "layout": {
            **layout(colours, height=max(360, 15 * len(data.inputs) + 120), top=64),
            "xaxis": axis(colours, title="lumisection", showgrid=False, range=span(verdicts)),
            "yaxis": axis(
                colours,
                autorange="reversed",
                showgrid=False,
                tickfont={"size": 11, "color": colours.ink},
                dtick=1,
            ),
            "shapes": [_vertical(x, colours) for x, _ in changes] if columns else [],
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
            "y": [100 * (verdict.accept_rate or 0.0) for verdict in known],
            "yaxis": "y2",
            "name": "accept rate",
            "error_y": {
                "type": "data",
                "array": [_binomial_error(verdict) for verdict in known],
                "thickness": 1,
                "width": 0,
                "color": colours.window,
            },
            "marker": {"color": colours.window, "size": 6},
            "customdata": [
                [percent(verdict.expected_rate), deviation(verdict.rate_deviation)] for verdict in known
            ],
            "hovertemplate": "LS %{x}: %{y:.2f} %<br>expected %{customdata[0]}, %{customdata[1]}"
            "<extra></extra>",
        },
    ]


def _binomial_error(verdict: views.VerdictView) -> float:
    rate, n = verdict.accept_rate or 0.0, max(verdict.n_events, 1)
    return 100.0 * float(np.sqrt(max(rate * (1.0 - rate), 0.0) / n))


def _family_lines(assessments: Sequence[Assessment], colours: Palette) -> list[Figure]:
    tints = {"inputs": colours.reference, "score": colours.window, "rate": colours.good}
    series: dict[str, list[tuple[int, float]]] = {}
    for one in assessments:
        for family in one.families:
            if family.threshold > 0:
                series.setdefault(family.name, []).append((one.lumisection, family.value / family.threshold))
    return [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "x": [x for x, _ in points],
            "y": [y for _, y in points],
            "yaxis": "y3",
            "name": name,
            "line": {"color": tints.get(name, colours.muted), "width": 1.5},
            "marker": {"symbol": _FAMILY_SYMBOLS.get(name, "cross"), "size": 6},
            "hovertemplate": f"LS %{{x}}: {name} at %{{y:.2f}} of its threshold<extra></extra>",
        }
        for name, points in series.items()
    ]


def _vertical(x: float, colours: Palette) -> Figure:
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
        "y": 0.895,
        "yref": "paper",
        "yanchor": "top",
        "xanchor": "left",
        "showarrow": False,
        "text": f" package {short(package)}",
        "font": {"color": colours.ink, "size": 13},
    }
