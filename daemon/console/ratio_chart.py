"""The ratio plot of the console: a window over its reference. Pure; knows no pages and no database."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from daemon.alerts.overlay import Overlay
from daemon.console.chart_style import CONFIG, Figure, axis, faded, layout
from daemon.console.looks import Palette


def ratio(data: Overlay, *, quantity: str, unit: str, colours: Palette, marks: Sequence[str] = ()) -> Figure:
    """Draw a window over its reference, with the ratio below.

    Parameters
    ----------
    data
        Binned counts.
    quantity, unit
        Label of the horizontal axis.
    colours
        Dark or light.
    marks
        Written into the plot for data that is not live.
    """
    centres, edges = data.centres, data.edges
    positive = data.expected[data.expected > 0]
    logarithmic = positive.size > 0 and float(positive.max()) > 100 * float(positive.min())
    return {
        "data": [
            {
                "type": "bar",
                "x": centres.tolist(),
                "y": data.expected.tolist(),
                "width": np.diff(edges).tolist(),
                "name": f"reference ({data.n_reference:,} events, scaled)",
                "marker": {"color": colours.reference},
                "opacity": 0.45,
                "hovertemplate": "%{x:.4g}: %{y:.1f} expected<extra></extra>",
            },
            _points(
                centres, data.window, data.window_error, f"window ({data.n_window:,} events)", colours, "y"
            ),
            _band(edges, data.ratio_band, colours),
            _points(centres, data.ratio, data.ratio_error, "ratio", colours, "y2", shown=False),
        ],
        "layout": {
            **layout(colours, height=460),
            "bargap": 0,
            "xaxis": axis(colours, title=f"{quantity} [{unit}]" if unit else quantity, anchor="y2"),
            "yaxis": axis(
                colours,
                title="events per bin",
                domain=[0.36, 1.0],
                **({"type": "log", "dtick": 1} if logarithmic else {}),
            ),
            "yaxis2": axis(colours, title="window / reference", domain=[0.0, 0.30], range=[0.5, 1.5]),
            "shapes": [
                {
                    "type": "line",
                    "xref": "paper",
                    "x0": 0,
                    "x1": 1,
                    "yref": "y2",
                    "y0": 1,
                    "y1": 1,
                    "line": {"color": colours.muted, "width": 1},
                }
            ],
            "annotations": _marks(marks, colours),
            "legend": {
                "x": 0.99,
                "y": 0.99,
                "xanchor": "right",
                "yanchor": "top",
                "font": {"color": colours.ink, "size": 14},
                "bgcolor": "rgba(0,0,0,0)",
            },
        },
        "config": CONFIG,
    }


def _points(
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    error: npt.NDArray[np.float64],
    name: str,
    colours: Palette,
    y_axis: str,
    *,
    shown: bool = True,
) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": x.tolist(),
        "y": _finite(y),
        "yaxis": y_axis,
        "name": name,
        "showlegend": shown,
        "marker": {"color": colours.window, "size": 6},
        "error_y": {
            "type": "data",
            "array": _finite(error),
            "thickness": 1.3,
            "width": 0,
            "color": colours.window,
        },
        "hovertemplate": "%{x:.4g}: %{y:.4g}<extra></extra>",
    }


def _band(edges: npt.NDArray[np.float64], half_width: npt.NDArray[np.float64], colours: Palette) -> Figure:
    width = np.nan_to_num(half_width)
    x = np.repeat(edges, 2)[1:-1]
    low, high = np.repeat(1 - width, 2), np.repeat(1 + width, 2)
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [*x.tolist(), *x[::-1].tolist()],
        "y": [*low.tolist(), *high[::-1].tolist()],
        "yaxis": "y2",
        "fill": "toself",
        "line": {"width": 0},
        "fillcolor": faded(colours.reference, 0.35),
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _finite(values: npt.NDArray[np.float64]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _marks(marks: Sequence[str], colours: Palette) -> list[Figure]:
    if not marks:
        return []
    return [
        {
            "x": 0.99,
            "y": 0.72,
            "xref": "paper",
            "yref": "paper",
            "xanchor": "right",
            "showarrow": False,
            "align": "right",
            "text": "<br>".join(marks),
            "font": {"color": colours.muted, "size": 16},
        }
    ]
