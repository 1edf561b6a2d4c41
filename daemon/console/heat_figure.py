"""The heat map of the console: inputs against lumisections. Pure; knows no pages and no database."""

import math
from collections.abc import Sequence

import numpy as np

from daemon.alerts.evidence import HeatMap
from daemon.console.chart_style import CONFIG, Figure, axis, layout
from daemon.console.charts import package_changes, span, vertical
from daemon.console.looks import Palette
from daemon.store import views


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
                "z": [[_known(value) for value in row] for row in np.round(data.distance, 3).tolist()],
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
            "shapes": [vertical(x, colours) for x, _ in changes] if columns else [],
        },
        "config": CONFIG,
    }


def chosen(lumisection: int, row: int | None, colours: Palette) -> list[Figure]:
    """Mark a lumisection in a plot over lumisections, and a row of a heat map.

    Parameters
    ----------
    row
        Of the input, from above; None for plots without rows.
    """
    line = {"color": colours.window, "width": 2}
    x0, x1 = lumisection - 0.5, lumisection + 0.5
    marks = [{"type": "rect", "x0": x0, "x1": x1, "yref": "paper", "y0": 0, "y1": 1, "line": line}]
    if row is not None:
        y0, y1 = row - 0.5, row + 0.5
        marks.append({"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": y0, "y1": y1, "line": line})
    return marks


def _known(value: float) -> float | None:
    """Write what is unknown as JSON does, and equal to itself."""
    return None if math.isnan(value) else value
