"""The plots of a backtest's page: ROC, delays, evidence over time; each as SVG text.

Drawn in mplhep's ROOT style. Refuses to know where they go.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from itertools import cycle

import matplotlib as mpl
import mplhep
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from streams.backtest.report import Detection, EffectReport, Report

# Okabe and Ito's palette, as in the messages; two rounds of markers tell more effects apart
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^v<>PX*"
_WIDTH = 11.0
_CLIPPED = -4.0
"""Decimal logarithm of the evidence below which it is all the same."""
_MOST = 1.5
"""Above the level of an alarm there is no more to tell: other lines would be squeezed."""


def roc_plot(report: Report) -> str:
    """Draw, budget by budget, the share of repetitions in which effects are found, and false alarms."""
    return _drawn(lambda figure: _roc(figure, report), height=7.5)


def delay_plot(report: Report) -> str:
    """Draw median and 90 % delay of each effect under the first budget."""
    return _drawn(lambda figure: _delays(figure.subplots(), report), height=1.6 + 0.5 * len(report.effects))


def evidence_plot(report: Report) -> str:
    """Draw the evidence of one repetition of each effect, lumisection by lumisection."""
    return _drawn(lambda figure: _evidence(figure.subplots(), report.effects), height=5.6)


def _drawn(draw: Callable[[Figure], None], *, height: float) -> str:
    style = {
        **mplhep.style.ROOT,
        "font.size": 13,
        "figure.facecolor": "white",
        "savefig.bbox": None,
        "legend.fontsize": 12,
        "svg.fonttype": "path",
        "svg.hashsalt": "lumiwatch",
        "axes.labelsize": 14,
    }
    with mpl.rc_context():
        mpl.rcParams.update(style)
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        canvas = FigureCanvasSVG(figure)
        draw(figure)
        picture = io.BytesIO()
        canvas.print_figure(picture, format="svg", metadata={"Date": None, "Creator": "lumiwatch"})
    text = picture.getvalue().decode()
    return text[text.index("<svg") :]


def _styles(effects: Sequence[EffectReport]) -> list[tuple[EffectReport, str, str]]:
    return list(zip(effects, cycle(_COLOURS), cycle(_MARKERS)))


def _roc(figure: Figure, report: Report) -> None:
    upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 2]})
    order = sorted(range(len(report.budgets)), key=lambda index: report.budgets[index])
    budgets = np.array([1000 * report.budgets[index] for index in order])
    for number, (effect, colour, marker) in enumerate(_styles(report.effects)):
        found = [effect.detections[index].probability for index in order]
        apart = 1.03 ** (number - len(report.effects) / 2)
        upper.plot(budgets * apart, found, color=colour, marker=marker, label=effect.effect, alpha=0.85)
    alarms = [report.false_alarms[index] for index in order]
    seen = np.array([one.per_1000 for one in alarms])
    bounds = np.array([one.interval for one in alarms]).T
    lower.errorbar(
        budgets, seen, yerr=np.abs(bounds - seen), fmt="o", color="#444444", capsize=4, label="seen (95 %)"
    )
    lower.plot(budgets, budgets, color=_COLOURS[0], linestyle="--", label="as many as allowed")
    lower.set_yscale("symlog", linthresh=1.0, linscale=0.5)
    lower.set_ylim(-0.1, 1.5 * max(float(bounds.max()), float(budgets.max())))
    lower.set_xscale("log")
    upper.set_ylim(-0.05, 1.05)
    upper.set_ylabel("share found")
    lower.set_ylabel("false alarms\nper 1000 LS")
    lower.set_xlabel("budget: false alarms allowed per 1000 LS")
    for axes in (upper, lower):
        axes.axvline(1000 * report.budgets[0], color="#888888", linewidth=1, linestyle=":")
        _legend(axes)


def _delays(axes: Axes, report: Report) -> None:
    horizon = max(one.horizon for one in report.effects)
    for row, effect in enumerate(reversed(report.effects)):
        found = effect.detections[0]
        median, late = _shown(found, horizon)
        axes.plot([median, late], [row, row], color=_COLOURS[0], linewidth=4, alpha=0.4)
        axes.plot([median], [row], marker="o", color=_COLOURS[0], markersize=9)
        axes.plot([late], [row], marker="|", color=_COLOURS[0], markersize=16, markeredgewidth=2.5)
    axes.axvline(horizon + 1, color="#888888", linestyle=":", linewidth=1)
    axes.set_yticks(range(len(report.effects)), [one.effect for one in reversed(report.effects)])
    axes.tick_params(axis="y", which="minor", left=False, right=False)
    axes.set_ylim(-0.6, len(report.effects) - 0.4)
    axes.set_xlim(0, horizon + 2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("delay in LS: median (dot) to 90 % (bar); at the dotted line: not within the horizon")


def _shown(found: Detection, horizon: int) -> tuple[float, float]:
    beyond = horizon + 1.0
    return (
        beyond if found.median_delay is None else found.median_delay,
        beyond if found.late_delay is None else found.late_delay,
    )


def _evidence(axes: Axes, effects: Sequence[EffectReport]) -> None:
    for effect, colour, marker in _styles(effects):
        shown = effect.example
        since = np.array(shown.lumisections) - shown.onset + 1
        values = [np.nan if value is None else value for value in shown.evidence]
        clipped = np.clip(np.array(values, dtype=np.float64), _CLIPPED, _MOST)
        axes.plot(since, clipped, color=colour, marker=marker, markersize=4, label=effect.effect, alpha=0.85)
    axes.axhline(0.0, color="#444444", linewidth=1, linestyle="--")
    axes.axvline(0.5, color="#888888", linewidth=1, linestyle=":")
    axes.set_ylim(_CLIPPED - 0.1, _MOST + 0.2)
    axes.set_xlabel("LS since the onset (dotted): 1 is the first bad one")
    axes.set_ylabel("log10 of evidence over an alarm's")
    _legend(axes)


def _legend(axes: Axes) -> None:
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
