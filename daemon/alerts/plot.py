"""The picture that goes with a message: a window over its reference, with the ratio below, as PNG.

Drawn in mplhep's ROOT style so that people who read it feel at home. Refuses to know where the counts come
from and where the picture goes.
"""

import io
import threading
from collections.abc import Sequence

import matplotlib as mpl
import mplhep
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from daemon.alerts.overlay import Overlay

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
    style = {**mplhep.style.ROOT, "font.size": 15, "figure.facecolor": "white", "savefig.bbox": None}
    with _style_lock, mpl.rc_context():
        mpl.rcParams.update(style)
        figure = Figure(figsize=(9, 7.5), dpi=_DPI)
        canvas = FigureCanvasAgg(figure)
        upper, lower = figure.subplots(
            2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1], "hspace": 0.06}
        )
        figure.subplots_adjust(left=0.13, right=0.97, top=0.92, bottom=0.11)
        _draw_counts(upper, data)
        _draw_ratio(lower, data)
        upper.set_title(title, fontsize=15, loc="left", parse_math=False)
        label = f"{quantity} [{unit}]" if unit else quantity
        lower.set_xlabel(label, parse_math=False)
        if marks:
            upper.text(
                0.97,
                0.60,
                "\n".join(marks),
                transform=upper.transAxes,
                ha="right",
                va="top",
                fontsize=17,
                fontweight="bold",
                color="#555555",
                parse_math=False,
            )
        picture = io.BytesIO()
        canvas.print_figure(picture, dpi=_DPI, metadata={"Software": "lumiwatch"})
    return picture.getvalue()


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
