"""The eta-phi map of the console: pulls of a window from its expectation. Pure; knows no pages."""

from collections.abc import Sequence

import numpy as np

from daemon.alerts.pull_map import PullMap
from daemon.console.chart_style import CONFIG, Figure, axis, layout
from daemon.console.looks import Palette


def map_of_pulls(data: PullMap, *, title: str, colours: Palette, marks: Sequence[str] = ()) -> Figure:
    """Draw a map of pulls, with a frame around the place that the story is about.

    Parameters
    ----------
    data
        Pulls and edges.
    title
        Written above: object and lumisection.
    colours
        Dark or light.
    marks
        Written above for data that is not live.
    """
    top = max(5.0, float(np.abs(data.pulls).max(initial=0.0)))
    return {
        "data": [
            {
                "type": "heatmap",
                "x": data.eta.tolist(),
                "y": data.phi.tolist(),
                "z": np.round(data.pulls.T, 2).tolist(),
                "zmin": -top,
                "zmax": top,
                "colorscale": [[0.0, colours.reference], [0.5, colours.ground], [1.0, colours.window]],
                "colorbar": {
                    "title": {"text": "pull", "side": "right"},
                    "outlinewidth": 0,
                    "thickness": 14,
                    "tickfont": {"color": colours.ink},
                },
                "hovertemplate": "eta %{x:.2f}, phi %{y:.2f}: pull %{z:.1f}<extra></extra>",
            }
        ],
        "layout": {
            **layout(colours, height=520, top=40),
            "xaxis": axis(colours, title="eta", showgrid=False),
            "yaxis": axis(colours, title=f"phi [{data.unit}]" if data.unit else "phi", showgrid=False),
            "shapes": [
                {
                    "type": "rect",
                    "x0": low[0],
                    "x1": high[0],
                    "y0": low[1],
                    "y1": high[1],
                    "line": {"color": colours.ink, "width": 3},
                }
                for low, high in data.frames()
            ],
            "title": {
                "text": ", ".join([title, *marks]),
                "x": 0.02,
                "font": {"size": 15, "color": colours.muted},
            },
        },
        "config": CONFIG,
    }
