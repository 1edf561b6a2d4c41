"""The pictures that go with a message, as PNG: a window over its reference, a map, the rate against pileup.

Drawn in mplhep's ROOT style so that people who read it feel at home. Refuses to know where the counts come
from and where the picture goes.
"""

import io
import threading
from collections.abc import Callable, Sequence

import matplotlib as mpl
import mplhep
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from daemon.alerts.overlay import Overlay
from daemon.alerts.pull_map import PullMap
from daemon.alerts.rate_curve import RateCurve

# Okabe and Ito's palette: told apart by people with any common colour blindness.
_WINDOW = "#D55E00"
_REFERENCE = "#0072B2"
_DPI = 100

# matplotlib's rcParams belong to the whole process.
_style_lock = threading.Lock()


def ratio_plot(data: Overlay, *, quantity: str, unit: str, title: str, marks: Sequence[str] = ()) -> bytes:
    """Draw a window over its reference.

    Parameters
    ----------
    data
        Binned counts of both.
    quantity, unit
        Label of the horizontal axis, such as ``jet[0].pt`` and ``GeV``.
    title
        Written above the plot: model, run and lumisections.
    marks
        ``REPLAY``, ``SIMULATED DATA``: written into the plot, because pictures travel without their message.

    Returns
    -------
    bytes
        A PNG of 900 x 750 pixels.
    """

    def draw(figure: Figure) -> None:
        upper, lower = figure.subplots(
            2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1], "hspace": 0.06}
        )
        figure.subplots_adjust(left=0.13, right=0.97, top=0.92, bottom=0.11)
        _draw_counts(upper, data)
        _draw_ratio(lower, data)
        _head(upper, title, marks)
        label = f"{quantity} [{unit}]" if unit else quantity
        lower.set_xlabel(label, parse_math=False)

    return _png(draw)


def map_plot(data: PullMap, *, title: str, marks: Sequence[str] = ()) -> bytes:
    """Draw the pulls of an eta-phi map, with a frame around the place that the story is about.

    Parameters
    ----------
    data
        Pulls and edges.
    title, marks
        As for `ratio_plot`.

    Returns
    -------
    bytes
        A PNG of 900 x 750 pixels.
    """

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        figure.subplots_adjust(left=0.12, right=0.97, top=0.92, bottom=0.11)
        top = max(5.0, float(np.abs(data.pulls).max(initial=0.0)))
        mesh = axes.pcolormesh(data.eta, data.phi, data.pulls.T, cmap="RdBu_r", vmin=-top, vmax=top)
        bar = figure.colorbar(mesh, ax=axes, pad=0.02)
        bar.set_label("pull: (window \u2212 expected) / error")
        axes.set_xlabel(f"{data.object} eta", parse_math=False)
        axes.set_ylabel(f"{data.object} phi [{data.unit}]" if data.unit else "phi", parse_math=False)
        for low, high in data.frames():
            axes.add_patch(
                Rectangle(
                    (low[0], low[1]),
                    high[0] - low[0],
                    high[1] - low[1],
                    fill=False,
                    color="black",
                    linewidth=2.5,
                )
            )
        _head(axes, title, marks)

    return _png(draw)


def rate_plot(data: RateCurve, *, title: str, marks: Sequence[str] = ()) -> bytes:
    """Draw accept rate against pileup, with the curve of the reference and its band.

    Parameters
    ----------
    data
        Curve and windows.
    title, marks
        As for `ratio_plot`.

    Returns
    -------
    bytes
        A PNG of 900 x 750 pixels.
    """

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        figure.subplots_adjust(left=0.13, right=0.97, top=0.92, bottom=0.11)
        curve = 100 * data.expected
        axes.fill_between(
            data.pileup,
            curve * (1 - data.band),
            curve * (1 + data.band),
            color=_REFERENCE,
            alpha=0.25,
            linewidth=0,
            label=f"reference \u00b1{100 * data.band:.1f} %",
        )
        axes.plot(data.pileup, curve, color=_REFERENCE, linewidth=2)
        axes.errorbar(
            data.at,
            100 * data.rate,
            100 * data.rate_error,
            fmt="o",
            color=_WINDOW,
            markersize=6,
            label="windows",
        )
        axes.errorbar(
            data.at[-1:], 100 * data.rate[-1:], fmt="o", color="black", markersize=9, label="latest window"
        )
        axes.set_xlabel("pileup")
        axes.set_ylabel("accept rate [%]")
        axes.set_xlim(data.pileup[0], data.pileup[-1])
        highest = 100 * max(float(data.rate.max()), float((data.expected * (1 + data.band)).max()))
        axes.set_ylim(0, 1.35 * highest)
        axes.legend(loc="upper left", fontsize=14)
        _head(axes, title, marks)

    return _png(draw)


def _png(draw: Callable[[Figure], None]) -> bytes:
    """Draw on a figure of 900 x 750 pixels in mplhep's style, and return it as PNG."""
    style = {**mplhep.style.ROOT, "font.size": 15, "figure.facecolor": "white", "savefig.bbox": None}
    with _style_lock, mpl.rc_context():
        mpl.rcParams.update(style)
        figure = Figure(figsize=(9, 7.5), dpi=_DPI)
        canvas = FigureCanvasAgg(figure)
        draw(figure)
        picture = io.BytesIO()
        canvas.print_figure(picture, dpi=_DPI, metadata={"Software": "lumiwatch"})
    return picture.getvalue()


def _head(axes: Axes, title: str, marks: Sequence[str]) -> None:
    axes.set_title(title, fontsize=15, loc="left", parse_math=False)
    if marks:
        words = ", ".join(marks)
        axes.set_title(words, fontsize=15, loc="right", fontweight="bold", color="#555555", parse_math=False)


def _draw_counts(axes: Axes, data: Overlay) -> None:
    mplhep.histplot(
        data.expected,
        data.edges,
        yerr=False,
        ax=axes,
        histtype="fill",
        color=_REFERENCE,
        alpha=0.35,
        label=f"reference ({data.n_reference:,} events, scaled)",
    )
    mplhep.histplot(
        data.window,
        data.edges,
        yerr=data.window_error,
        ax=axes,
        histtype="errorbar",
        color=_WINDOW,
        markersize=6,
        label=f"window ({data.n_window:,} events)",
    )
    axes.set_ylabel("events per bin")
    axes.legend(loc="upper right", fontsize=14)
    highest, lowest = (
        float(np.max(data.expected, initial=1.0)),
        float(data.expected[data.expected > 0].min(initial=1.0)),
    )
    if highest > 100 * lowest:
        axes.set_yscale("log")
        axes.set_ylim(0.5, highest * 30)
    else:
        axes.set_ylim(0, highest * 1.5)


def _draw_ratio(axes: Axes, data: Overlay) -> None:
    band = np.nan_to_num(data.ratio_band)
    axes.stairs(1 + band, data.edges, baseline=1 - band, fill=True, color=_REFERENCE, alpha=0.35)
    axes.axhline(1.0, color="#444444", linewidth=1)
    axes.errorbar(data.centres, data.ratio, yerr=data.ratio_error, fmt="o", color=_WINDOW, markersize=6)
    axes.set_ylim(0.5, 1.5)
    axes.set_xlim(data.edges[0], data.edges[-1])
    axes.set_ylabel("ratio")
