"""The Turing change point data as river ships it, and its two scores.

River's wheel holds 7 of the 37 real series of van den Burg and Williams (arXiv 2003.06222), each with the
change points that five people marked. The other series are not shipped, and nothing is downloaded.

River ships three of the series as their raw tables, while the marks count the rows of the paper's series. The
paper's own rule is applied: Apple's closing price and volume without the first day and then every third day,
Brent's price every tenth day and then from 2000 on, the price of a bitcoin until 2019-06-19.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from river.drift import datasets

MARGIN: Final = 5

Row = tuple[dict[str, Any], Any]


@dataclass(frozen=True, eq=False)
class Series:
    """One series.

    Attributes
    ----------
    values
        float64, shape (n, columns), each column with mean 0 and standard deviation 1, as in the paper. That
        looks ahead, for every detector alike.
    annotations
        Positions that each annotator marked.
    """

    name: str
    values: npt.NDArray[np.float64]
    annotations: tuple[frozenset[int], ...]


def all_series() -> list[Series]:
    """Return the series that river ships."""
    return [
        _series("airline passengers", datasets.AirlinePassengers()),
        _series("Apple", datasets.Apple(), lambda rows: rows[1:][::3], ("Close", "Volume")),
        _series("bitcoin", datasets.Bitcoin(), _until_june_2019),
        _series("Brent", datasets.BrentSpotPrice(), _from_2000),
        _series("occupancy", datasets.Occupancy()),
        _series("run log", datasets.RunLog()),
        _series("UK coal", datasets.UKCoalEmploy()),
    ]


def f1(annotations: Sequence[Collection[int]], predictions: Collection[int], margin: int = MARGIN) -> float:
    """F1 of change points within a margin.

    Section 3.2 of arXiv 2003.06222: precision counts predictions that meet a mark of any annotator, recall is
    the mean over the annotators; each prediction meets one mark only. The start of the series counts as
    marked and predicted.
    """
    marked = [{0, *one} for one in annotations]
    predicted = {0, *predictions}
    precision = _met(set().union(*marked), predicted, margin) / len(predicted)
    recall = float(np.mean([_met(one, predicted, margin) / len(one) for one in marked]))
    return 2 * precision * recall / (precision + recall)


def covering(annotations: Sequence[Collection[int]], predictions: Collection[int], length: int) -> float:
    """Covering of the annotators' segments by the predicted ones, mean over the annotators.

    Section 3.2 of arXiv 2003.06222: the mean over all positions of the largest Jaccard index between the
    annotator's segment around the position and any predicted segment.
    """
    predicted = _segments(predictions, length)
    return float(
        np.mean(
            [
                sum(
                    (end - begin) * max(_jaccard((begin, end), other) for other in predicted)
                    for begin, end in own
                )
                / length
                for own in (_segments(one, length) for one in annotations)
            ]
        )
    )


def predictions(make: Callable[[], Callable[[float], bool]], series: Series) -> set[int]:
    """Return where a detector raises an alarm in any column; each column gets a detector of its own."""
    found: set[int] = set()
    for column in series.values.T:
        detector = make()
        found.update(position for position, value in enumerate(column.tolist()) if detector(value))
    return found


def scores(
    detectors: Mapping[str, Callable[[], Callable[[float], bool]]],
) -> list[tuple[str, str, float, float]]:
    """Return series, detector, F1 and covering of every pair; the last rows are means over the series."""
    series = all_series()
    rows = []
    for name, make in detectors.items():
        found = [(one, predictions(make, one)) for one in series]
        mine = [
            (one.name, name, f1(one.annotations, places), covering(one.annotations, places, len(one.values)))
            for one, places in found
        ]
        f1s, coverings = np.mean([row[2:] for row in mine], axis=0)
        rows += [*mine, ("mean", name, float(f1s), float(coverings))]
    return rows


def _series(
    name: str,
    source: Any,
    choose: Callable[[list[Row]], list[Row]] = lambda rows: rows,
    columns: tuple[str, ...] = (),
) -> Series:
    targets = [target for _, target in choose(list(source))]
    values = np.array([_numbers(target, columns) for target in targets], dtype=np.float64)
    values = (values - values.mean(axis=0)) / values.std(axis=0)
    return Series(name, values, tuple(frozenset(one) for one in source.annotations.values()))


def _numbers(target: Any, columns: tuple[str, ...]) -> list[float]:
    if not isinstance(target, dict):
        return [target]
    return [target[column] for column in columns or target]


def _from_2000(rows: list[Row]) -> list[Row]:
    return [row for row in rows[::10] if row[0]["day"].year >= 2000]


def _until_june_2019(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row[0]["date"] <= datetime(2019, 6, 19)]  # noqa: DTZ001 - river's are naive


def _met(marks: Iterable[int], predicted: Collection[int], margin: int) -> int:
    """Return how many marks have a prediction within the margin that no mark before them has taken."""
    free, met = set(predicted), 0
    for mark in sorted(marks):
        near = [(abs(mark - one), one) for one in free if abs(mark - one) <= margin]
        if near:
            free.remove(min(near)[1])
            met += 1
    return met


def _segments(places: Collection[int], length: int) -> list[tuple[int, int]]:
    edges = sorted({0, length, *(place for place in places if place < length)})
    return list(pairwise(edges))


def _jaccard(first: tuple[int, int], second: tuple[int, int]) -> float:
    common = max(min(first[1], second[1]) - max(first[0], second[0]), 0)
    return common / (first[1] - first[0] + second[1] - second[0] - common)
