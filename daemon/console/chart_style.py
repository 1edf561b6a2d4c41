"""What all plots of the console share: margins, grid, fonts, configuration. Knows no data."""

from collections.abc import Mapping
from typing import Any

from daemon.console.looks import Palette

Figure = dict[str, Any]
"""A Plotly figure: data, layout and config in plain dictionaries."""

MARGIN = {"l": 100, "r": 24, "b": 56}
CONFIG = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["lasso2d", "select2d"]}


def layout(colours: Palette, *, height: int, top: int = 10) -> Figure:
    """Lay a figure of `height` pixels out, `top` of them above the axes; the width is its container's."""
    return {
        "height": height,
        "autosize": True,
        "margin": {**MARGIN, "t": top},
        "paper_bgcolor": colours.ground,
        "plot_bgcolor": colours.ground,
        "barmode": "overlay",
        "uirevision": "kept",
        "hovermode": "closest",
        "font": {"family": "Roboto, sans-serif", "size": 14, "color": colours.ink},
        "hoverlabel": {"bgcolor": colours.ground, "font": {"color": colours.ink, "size": 14}},
    }


def axis(colours: Palette, title: str | None = None, **more: Any) -> Mapping[str, Any]:
    """Style an axis; `more` goes to Plotly as it is."""
    styled: dict[str, Any] = {
        "gridcolor": colours.line,
        "zeroline": False,
        "linecolor": colours.line,
        "tickcolor": colours.line,
        **more,
    }
    if title is not None:
        styled["title"] = {"text": title, "font": {"size": 14, "color": colours.muted}, "standoff": 8}
    return styled


def faded(colour: str, opacity: float) -> str:
    """Make a colour ``#rrggbb`` transparent."""
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"
