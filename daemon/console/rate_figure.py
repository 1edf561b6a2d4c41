"""The rate chart of the console: accept rate against pileup. Pure; knows no pages and no database."""

import numpy as np

from daemon.alerts.rate_curve import RateCurve
from daemon.console.chart_style import CONFIG, Figure, axis, faded, layout
from daemon.console.looks import Palette


def rate_against_pileup(data: RateCurve, colours: Palette) -> Figure:
    """Accept rate against pileup, with the curve of the reference and the band of the rate chart.

    Parameters
    ----------
    data
        Curve and windows of one run.
    colours
        Dark or light.
    """
    curve, x = 100 * data.expected, data.pileup.tolist()
    edge = {"type": "scatter", "mode": "lines", "x": x, "hoverinfo": "skip", "line": {"width": 0}}
    ages = np.linspace(0.35, 1.0, len(data.at)).tolist()
    return {
        "data": [
            {**edge, "y": (curve * (1 - data.band)).tolist(), "showlegend": False},
            {
                **edge,
                "y": (curve * (1 + data.band)).tolist(),
                "fill": "tonexty",
                "fillcolor": faded(colours.reference, 0.18),
                "name": f"tolerated \u00b1{100 * data.band:.1f} %",
            },
            {
                "type": "scatter",
                "mode": "lines",
                "x": x,
                "y": curve.tolist(),
                "name": "reference",
                "line": {"color": colours.reference, "width": 2},
                "hoverinfo": "skip",
            },
            {
                "type": "scatter",
                "mode": "markers",
                "x": data.at.tolist(),
                "y": (100 * data.rate).tolist(),
                "name": "windows, the latest brightest",
                "error_y": {
                    "type": "data",
                    "array": (100 * data.rate_error).tolist(),
                    "thickness": 1,
                    "width": 0,
                    "color": colours.window,
                },
                "marker": {"color": colours.window, "size": 8, "opacity": ages},
                "customdata": data.lumisections.tolist(),
                "hovertemplate": "LS %{customdata}: %{y:.2f} % at pileup %{x:.1f}<extra></extra>",
            },
        ],
        "layout": {
            **layout(colours, height=380),
            "xaxis": axis(colours, title="pileup"),
            "yaxis": axis(colours, title="accept rate [%]", rangemode="tozero"),
            "legend": {
                "orientation": "h",
                "x": 0,
                "y": -0.18,
                "yanchor": "top",
                "font": {"color": colours.ink, "size": 13},
            },
        },
        "config": CONFIG,
    }
