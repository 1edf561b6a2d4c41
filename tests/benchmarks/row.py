"""One line of the benchmark table, and how a time is taken. Knows no benchmark."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number with its baseline, both measured in the same run.

    Attributes
    ----------
    name
        What was measured, with its size: ``fill, 7500 x 57``.
    value, unit
        The number.
    baseline, baseline_value
        What it is compared with, by name, and that one's number in the same unit; None where nothing is
        comparable.
    ratio
        How it stands to the baseline, as the target counts it (a target of ">= 20x" wants times faster).
    target
        What was set out to be reached, in words; None for a number that is only recorded.
    met
        Whether it was; None without a target.
    """

    name: str
    value: float
    unit: str
    baseline: str | None = None
    baseline_value: float | None = None
    ratio: float | None = None
    target: str | None = None
    met: bool | None = None


def best_cpu_seconds(work: Callable[[], Any], repeats: int) -> float:
    """Return the shortest core time of one call: for work of one thread that waits for nothing."""
    return best_seconds(work, repeats, clock=time.thread_time)


def best_seconds(
    work: Callable[[], Any], repeats: int, *, inner: int = 1, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return the shortest time of one call: what the machine can do when nothing else interferes.

    Parameters
    ----------
    repeats
        How often a time is taken; the minimum counts.
    inner
        Calls within each time, for work of microseconds.
    """
    best = float("inf")
    for _ in range(repeats):
        begun = clock()
        for _ in range(inner):
            work()
        best = min(best, (clock() - begun) / inner)
    return best
