"""The evidence behind a verdict: counts, references and conditions as the stream stored them.

Messages and the console show it; nothing is judged here again. Reads the stream's tables and changes nothing.
Decoded summaries and references are kept for a while, because pages ask for the same ones every few seconds.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from sqlalchemy.engine import Engine
from sqlmodel import col, select

from daemon.alerts.message import RunConditions
from daemon.alerts.overlay import Overlay, overlay
from daemon.alerts.pull_map import PullMap, pull_map
from daemon.alerts.rate_curve import RateCurve, rate_curve
from daemon.site.settings import Site
from streams.conditions import Conditions, decode_conditions
from streams.contracts.contract import InputSpec
from streams.counting.codec import decode_summary
from streams.counting.layout import Layout, score_bin_edges
from streams.counting.summary import Summary
from streams.errors import StreamsError
from streams.explaining.causes import Place
from streams.explaining.explanation import Story, explain
from streams.judging.assessment import Assessment
from streams.judging.expectation import Expected
from streams.judging.extremes import ks_distances
from streams.judging.reference import Reference, decode_reference
from streams.store.database import read_session
from streams.store.records import AssessmentRow, ConditionsRow, ReferenceRow, WindowRow

SCORE = "score"
"""Name under which `overlay` gives the output score of the firmware."""

_KEPT_COUNTS = 64
_KEPT_RESULTS = 4096
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class MeanPair:
    """Mean of an input in a window and in its reference, in `unit`; `relative`: a ratio makes sense."""

    actual: float
    expected: float
    unit: str
    relative: bool = True


@dataclass(frozen=True)
class HeatMap:
    """Kolmogorov-Smirnov distance of every input in every lumisection.

    Parameters
    ----------
    lumisections
        One per column; a lumisection stands twice when the firmware changed inside it.
    inputs
        Names, one per row, in the contract's order.
    distance
        float64 of shape (n_inputs, n_lumisections), 0 to 1; NaN where there is nothing to compare.
    """

    lumisections: tuple[int, ...]
    inputs: tuple[str, ...]
    distance: npt.NDArray[np.float64]


class Evidence:
    """What the stream kept about the windows of a site.

    Parameters
    ----------
    engine
        The site's database.
    site
        For the contracts: units, LSB, ranges.
    """

    def __init__(self, engine: Engine, site: Site) -> None:
        self._engine = engine
        self._site = site
        self._counts = _Memory(_KEPT_COUNTS)
        self._results = _Memory(_KEPT_RESULTS)

    def conditions(self, model: str, run: int, first: int, last: int) -> RunConditions | None:
        """Find the conditions of a range of lumisections, as they were at its end; None without."""
        with read_session(self._engine) as session:
            row = session.exec(
                select(ConditionsRow)
                .where(
                    ConditionsRow.model == model,
                    ConditionsRow.run == run,
                    col(ConditionsRow.lumisection).between(first, last),
                )
                .order_by(col(ConditionsRow.lumisection).desc())
            ).first()
            document = None if row is None else row.document
        if document is None:
            return None
        known: Conditions = decode_conditions(document.encode())
        return RunConditions(
            run=run,
            first_lumisection=first,
            last_lumisection=last,
            luminosity_hz_cm2=known.luminosity_hz_cm2,
            pileup=known.pileup,
            beam_mode=known.beam_mode,
            prescale_column=known.prescale_column,
        )

    def means(
        self, model: str, run: int, lumisection: int, package: str, inputs: tuple[str, ...]
    ) -> Mapping[str, MeanPair]:
        """Compute the means of inputs in a window and in its reference, where counts exist."""
        pair = self._compared(model, run, lumisection, package)
        contract = self._site.models[model].contract
        if pair is None or pair[0].contract_hash != contract.hash:
            return {}
        window, foreseen = pair
        means = {}
        for name in inputs:
            if name in contract.input_names:
                index = contract.input_index(name)
                spec = contract.inputs[index]
                actual = _mean(window.codes(index), spec)
                expected = _mean(_expected_codes(window.layout, foreseen, index), spec)
                above_zero = spec.minimum >= 0 and spec.minimum * spec.lsb + spec.origin >= 0
                means[name] = MeanPair(actual, expected, spec.unit, spec.wrap is None and above_zero)
        return means

    def overlay(
        self, model: str, run: int, lumisection: int, package: str, quantity: str
    ) -> tuple[Overlay, str] | None:
        """Lay a window over its reference for one input, or for ``score``, with the unit of the axis.

        Returns
        -------
        tuple of Overlay and str, or None
            None when window or reference are gone, or the quantity is not in the contract.
        """
        pair = self._compared(model, run, lumisection, package)
        contract = self._site.models[model].contract
        if pair is None or pair[0].contract_hash != contract.hash:
            return None
        window, expected = pair
        if quantity == SCORE:
            return _score_overlay(window, expected), "octaves, log2(1 + raw score)"
        if quantity not in contract.input_names:
            return None
        index = contract.input_index(quantity)
        spec = contract.inputs[index]
        counts = overlay(
            window.codes(index),
            _expected_codes(window.layout, expected, index),
            minimum=spec.minimum,
            lsb=spec.lsb,
            origin=spec.origin,
        )
        return counts, spec.unit

    def story(
        self, model: str, run: int, lumisection: int, package: str, suspects: tuple[str, ...]
    ) -> Story | None:
        """Tell the story of a window as data; None when window or reference are gone."""
        found = self._judged(model, run, lumisection, package)
        if found is None:
            return None
        assessment, window, reference = found
        contract = self._site.models[model].contract
        expectation = reference.expectation.at_value(assessment.second_value)
        return explain(assessment, window, expectation, contract, suspects=suspects)

    def pull_map(
        self, model: str, run: int, lumisection: int, package: str, name: str, place: Place | None = None
    ) -> PullMap | None:
        """Compare the map of one kind of object with its expectation; None when there is nothing to."""
        pair = self._compared(model, run, lumisection, package)
        contract = self._site.models[model].contract
        if pair is None or pair[0].contract_hash != contract.hash:
            return None
        return pull_map(*pair, contract, name, place)

    def rate_curve(self, model: str, run: int, *, limit: int = 300) -> RateCurve | None:
        """Lay the accept rates of a run over the curve of the reference that judged its last window."""
        assessments = self.assessments(model, run, limit=limit)
        judged = [one for one in assessments if one.judged and one.reference_id is not None]
        if not judged:
            return None
        latest = judged[-1].reference_id
        reference = self._reference(latest)
        if reference is None or reference.expectation.layout.own_totals:
            return None
        expectation = reference.expectation.at_value(judged[-1].second_value)
        return rate_curve([one for one in judged if one.reference_id == latest], expectation)

    def assessments(self, model: str, run: int, *, limit: int = 300) -> list[Assessment]:
        """Return the latest assessment of every window of a run, oldest first."""
        with read_session(self._engine) as session:
            rows = session.exec(
                select(AssessmentRow.window_id, AssessmentRow.assessment)
                .where(AssessmentRow.model == model, AssessmentRow.run == run)
                .order_by(col(AssessmentRow.id).desc())
                .limit(limit)
            ).all()
        latest: dict[int, Assessment] = {}
        for window_id, document in rows:
            if window_id not in latest:
                read = partial(Assessment.model_validate_json, document)
                latest[window_id] = self._results.get(("assessment", document), read)
        return sorted(latest.values(), key=lambda one: one.lumisection)

    def heat_map(self, model: str, run: int, *, limit: int = 120) -> HeatMap:
        """Compute the distance of every input in the latest windows of a run."""
        contract = self._site.models[model].contract
        columns: list[npt.NDArray[np.float64]] = []
        lumisections: list[int] = []
        for one in self.assessments(model, run, limit=limit):
            if one.reference_id is None:
                continue
            key = ("distance", model, run, one.lumisection, one.package, one.revision, one.reference_id)
            distance = self._results.get(key, partial(self._distance, one))
            if distance is not None and distance.shape == (len(contract.input_names),):
                columns.append(distance)
                lumisections.append(one.lumisection)
        matrix = np.stack(columns, axis=1) if columns else np.zeros((len(contract.input_names), 0))
        return HeatMap(tuple(lumisections), tuple(contract.input_names), matrix)

    def _distance(self, one: Assessment) -> npt.NDArray[np.float64] | None:
        pair = self._compared(one.model, one.run, one.lumisection, one.package)
        return None if pair is None else ks_distances(*pair)[0]

    def _compared(
        self, model: str, run: int, lumisection: int, package: str
    ) -> tuple[Summary, Expected] | None:
        """Find a window, and what the reference it was judged against expects at its pileup."""
        found = self._judged(model, run, lumisection, package)
        if found is None:
            return None
        assessment, window, reference = found
        expectation = reference.expectation.at_value(assessment.second_value)
        return window, expectation.at(_pileup(assessment, reference))

    def _judged(
        self, model: str, run: int, lumisection: int, package: str
    ) -> tuple[Assessment, Summary, Reference] | None:
        """Find a window with its latest assessment and the reference it was judged against."""
        with read_session(self._engine) as session:
            row = session.exec(
                select(WindowRow.id, WindowRow.n_events).where(
                    WindowRow.model == model,
                    WindowRow.run == run,
                    WindowRow.lumisection == lumisection,
                    WindowRow.package == package,
                )
            ).first()
            if row is None:
                return None
            judged = session.exec(
                select(AssessmentRow.assessment)
                .where(AssessmentRow.window_id == row[0])
                .order_by(col(AssessmentRow.id).desc())
            ).first()
        assessment = None if judged is None else Assessment.model_validate_json(judged)
        if assessment is None or assessment.reference_id is None:
            return None
        reference = self._reference(assessment.reference_id)
        try:
            window = self._counts.get(("window", *row), lambda: self._read_window(row[0]))
        except StreamsError:
            return None
        if window is None or reference is None or window.layout != reference.expectation.layout:
            return None
        return assessment, window, reference

    def _reference(self, reference_id: str | None) -> Reference | None:
        """Return a reference; None if it is gone or cannot be read."""
        if reference_id is None:
            return None
        try:
            return self._counts.get(("reference", reference_id), lambda: self._read_reference(reference_id))
        except StreamsError:
            return None

    def _read_window(self, window_id: int | None) -> Summary | None:
        with read_session(self._engine) as session:
            row = session.get(WindowRow, window_id)
            return None if row is None else decode_summary(row.summary)

    def _read_reference(self, reference_id: str) -> Reference | None:
        with read_session(self._engine) as session:
            row = session.get(ReferenceRow, reference_id)
            return None if row is None else decode_reference(row.content)


class _Memory:
    """The values made last, by key; used from several threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[Hashable, object] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], _Value]) -> _Value:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]  # type: ignore[return-value]  # a key always has one kind of value
        value = make()
        with self._lock:
            self._kept[key] = value
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return value


def _pileup(assessment: Assessment, reference: Reference) -> float:
    """Return the pileup a window was judged at; where its conditions never came, the reference's mean."""
    known = assessment.pileup if assessment.pileup_fitted is None else assessment.pileup_fitted
    slices = reference.expectation.slices
    sizes = [one.counts.n_events for one in slices]
    return float(np.average([one.pileup for one in slices], weights=sizes)) if known is None else known


def _expected_codes(layout: Layout, expected: Expected, index: int) -> npt.NDArray[np.float64]:
    """Return the reference's entries of every code of an input, as many as its densities are worth."""
    bins = slice(layout.starts[index] + 1, layout.starts[index + 1] - 1)
    counts: npt.NDArray[np.float64] = expected.inputs[bins] * expected.input_size[index]
    return counts


def _mean(counts: npt.NDArray[np.int64] | npt.NDArray[np.float64], spec: InputSpec) -> float:
    """Compute the mean in physical units, missing objects included as code 0."""
    total = float(counts.sum())
    codes = spec.minimum + np.arange(counts.size)
    mean_code = float(np.dot(counts, codes)) / total if total else 0.0
    return float(mean_code * spec.lsb + spec.offset * spec.lsb / 2**spec.shift + spec.origin)


def _score_overlay(window: Summary, expected: Expected) -> Overlay:
    """Bin scores on a logarithmic axis: 8 bins per factor of two."""
    edges = np.log2(1.0 + score_bin_edges().astype(np.float64))
    steps = np.floor(edges[:-1] * 8).astype(np.int64)
    size = int(steps.max()) + 1
    both = (window.score[1:], expected.score[1:] * expected.size)
    binned = [np.bincount(steps, weights=part, minlength=size) for part in both]
    return overlay(*binned, minimum=0, lsb=1 / 8)
