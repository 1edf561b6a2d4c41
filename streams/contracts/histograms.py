"""Histograms of a contract: which monitor elements of a DQM file a model is watched by, and their bins.

Each entry of ``[[histograms]]`` names one element by its full path and fixes kind and binning; its columns
are the inputs of the contract. Refuses to know files and counts (`streams.dqm.histogram_counts` counts).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Final, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from streams.contracts.quantity import ContractModel, InputSpec

MAX_CODE: Final = 2**15 - 1
"""Largest number of a bin or cell: summaries keep codes in 16 bits."""
MAX_AXIS_BINS: Final = MAX_CODE - 1

HistogramKind = Literal["th1", "th2", "tprofile"]
Edges = npt.NDArray[np.float64]

_Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,47}(\.[A-Za-z][A-Za-z0-9_-]{0,47})?$")]


class AxisSpec(ContractModel):
    """The bins of an axis: equal ones from `low` to `high`, or the ones between given `edges`."""

    bins: int | None = Field(default=None, ge=1, le=MAX_AXIS_BINS)
    low: float | None = None
    high: float | None = None
    edges: list[float] | None = Field(default=None, min_length=2, max_length=MAX_AXIS_BINS + 1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        equal = (self.bins, self.low, self.high)
        if self.edges is not None:
            if any(part is not None for part in equal):
                raise ValueError("an axis has either edges, or bins, low and high: drop one of them")
            if any(first >= second for first, second in pairwise(self.edges)):
                raise ValueError("edges must rise: put them in order, each once")
        elif self.bins is None or self.low is None or self.high is None:
            raise ValueError("an axis needs bins, low and high, or edges")
        elif not self.low < self.high:
            raise ValueError(f"low = {self.low:g} must lie below high = {self.high:g}")
        return self

    @property
    def n_bins(self) -> int:
        """Number of bins, without the flow bins."""
        return len(self.edges) - 1 if self.edges is not None else int(self.bins or 0)

    @property
    def width(self) -> float | None:
        """Width of every bin, or None where they differ."""
        if self.edges is not None or self.low is None or self.high is None:
            return None
        return (self.high - self.low) / self.n_bins

    def bin_edges(self) -> Edges:
        """Return the edges of the bins: float64, shape (n_bins + 1,)."""
        if self.edges is not None:
            return np.array(self.edges, dtype=np.float64)
        return np.linspace(float(self.low or 0.0), float(self.high or 0.0), self.n_bins + 1)


class ValueRange(ContractModel):
    """Between which values the quantity averaged by a profile lies."""

    low: float
    high: float
    unit: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low = {self.low:g} must lie below high = {self.high:g}")
        return self

    @property
    def span(self) -> float:
        """High minus low."""
        return self.high - self.low


@dataclass(frozen=True, slots=True)
class Column:
    """One input of a contract made from a histogram.

    Codes ``minimum`` to ``maximum`` are bins or cells; what lies below and above them are the flow bins of
    the summary. `lsb` is the width of one of them, in `unit`; the centre of one lies at
    ``code * lsb + origin``.
    """

    name: str
    minimum: int
    maximum: int
    lsb: float
    unit: str
    origin: float = 0.0


class HistogramSpec(ContractModel):
    """One monitor element.

    Attributes
    ----------
    name
        Short name, for people: ``jet.pt``.
    path
        Full name of the element, for example ``L1T/L1TStage2CaloLayer2/Central-Jets/CenJetsRank``.
    kind
        ``th1`` and ``th2`` (of any ROOT type), or ``tprofile``.
    x, y
        Axes; `y` for ``th2`` alone.
    values
        For ``tprofile`` alone: the range of the averaged quantity.
    unit
        Of the x axis.
    y_unit
        Of the y axis.
    scale
        Contents times this are numbers of entries: 1 / weight, where all entries have the same weight.
    """

    name: _Name
    path: str = Field(min_length=1, max_length=255)
    kind: HistogramKind
    x: AxisSpec
    y: AxisSpec | None = None
    values: ValueRange | None = None
    unit: str = ""
    y_unit: str = ""
    scale: float = Field(default=1.0, gt=0)

    @field_validator("path")
    @classmethod
    def _plain_path(cls, path: str) -> str:
        if not all(path.split("/")):
            raise ValueError("give the full name without a leading, trailing or double '/'")
        if len(path.split("/")) < 2 or "Run summary" in path.split("/"):
            raise ValueError("give the full name as in DQMIO: Subsystem/folder/element, no 'Run summary'")
        return path

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.kind == "th2") != (self.y is not None):
            raise ValueError("a th2 has a y axis and nothing else has: mend kind or y")
        if (self.kind == "tprofile") != (self.values is not None):
            raise ValueError(
                "a tprofile has values = { low, high } and nothing else has: mend kind or values"
            )
        if self.kind == "tprofile" and self.scale != 1.0:
            raise ValueError("a tprofile cannot be scaled: drop scale")
        if self.n_cells - 1 > MAX_CODE:
            raise ValueError(f"{self.n_cells} cells are more than {MAX_CODE + 1}: rebin the element")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the contents with flow bins: (x bins + 2,), for a th2 (y bins + 2, x bins + 2)."""
        x = self.x.n_bins + 2
        return (x,) if self.y is None else (self.y.n_bins + 2, x)

    @property
    def n_cells(self) -> int:
        """Number of bins with flow bins."""
        return math.prod(self.shape)

    def columns(self) -> Sequence[Column]:
        """Return the inputs this element becomes, in order.

        ``th1``: itself. ``th2``: itself with ROOT's global bin number as code, flow bins included, then its
        projections ``.x`` and ``.y``. ``tprofile``: ``.entries``, ``.high``, ``.low`` and ``.level``, see
        `streams.dqm.histogram_counts.count`.
        """
        x = _axis_column(self.name, self.x, self.unit)
        if self.y is not None:
            cells = Column(self.name, 0, self.n_cells - 1, 1.0, "cells")
            y = _axis_column(f"{self.name}.y", self.y, self.y_unit)
            return (cells, _axis_column(f"{self.name}.x", self.x, self.unit), y)
        if self.values is not None:
            parts = [
                _axis_column(f"{self.name}.{part}", self.x, self.unit) for part in ("entries", "high", "low")
            ]
            return (
                *parts,
                Column(f"{self.name}.level", 0, 1, self.values.span, self.values.unit, self.values.low),
            )
        return (x,)


def histogram_inputs(histograms: Iterable[HistogramSpec]) -> Iterable[InputSpec]:
    """Return the inputs of a contract that lists these histograms, in order."""
    for histogram in histograms:
        for column in histogram.columns():
            yield InputSpec(
                name=column.name,
                object=histogram.name,
                index=0,
                quantity=histogram.kind,
                lsb=column.lsb,
                unit=column.unit,
                minimum=column.minimum,
                maximum=column.maximum,
                wrap=None,
                padding=column.minimum,
                rounding="floor",
                offset=0,
                shift=0,
                origin=column.origin,
            )


def check_histograms(histograms: Sequence[HistogramSpec]) -> None:
    """Make sure that no element and no name stands twice; ValueError says which does."""
    paths = [histogram.path for histogram in histograms]
    names = [column.name for histogram in histograms for column in histogram.columns()]
    for listed, what in ((paths, "path"), (names, "name")):
        twice = next((one for one in listed if listed.count(one) > 1), None)
        if twice is not None:
            raise ValueError(f"{what} '{twice}' stands twice under [[histograms]]: drop or rename one")


def _axis_column(name: str, axis: AxisSpec, unit: str) -> Column:
    width = axis.width
    if width is None:
        return Column(name, 1, axis.n_bins, 1.0, "bins")
    return Column(name, 1, axis.n_bins, width, unit, float(axis.low or 0.0) - 0.5 * width)
