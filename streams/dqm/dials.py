"""DQM histograms as the DIALS service hands them out: JSON records of single lumisections.

A file holds one record, a list of records, or a page of them (``results``), of ``h1d`` (``data`` is a list)
and ``h2d`` (``data`` is a list of rows, one for each y bin). DIALS keeps no flow bins: they are taken as
empty, so references must be built from DIALS files too.
"""

from collections.abc import Iterator
from typing import Annotated, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from streams.dqm.histogram_counts import Histogram
from streams.errors import DqmFileError

MAX_JSON_BYTES: Final = 256 * 1024 * 1024
MAX_RECORD_BINS: Final = 1_000_000

_Number = Annotated[int, Field(ge=0, lt=2**31)]
_Bins = Annotated[float, Field(ge=1, le=MAX_RECORD_BINS)]  # DIALS writes numbers of bins as floats


class DialsRecord(BaseModel):
    """One monitor element of one lumisection. Keys that are not needed are not looked at."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    dataset: str = Field(min_length=1, max_length=255)
    me: str = Field(min_length=1, max_length=255)
    run_number: _Number
    ls_number: _Number
    x_min: float
    x_max: float
    x_bin: _Bins
    y_min: float | None = None
    y_max: float | None = None
    y_bin: _Bins | None = None
    data: list[float] | list[list[float]] = Field(max_length=MAX_RECORD_BINS)


class _Page(BaseModel):
    model_config = ConfigDict(extra="ignore")

    results: list[DialsRecord]


_FILE: Final[TypeAdapter[list[DialsRecord] | _Page | DialsRecord]] = TypeAdapter(
    list[DialsRecord] | _Page | DialsRecord
)


def read_records(text: bytes, paths: frozenset[str]) -> Iterator[tuple[DialsRecord, Histogram]]:
    """Read the records of a DIALS file whose ``me`` is asked for.

    Parameters
    ----------
    text
        The content of the file.
    paths
        Full names of the elements to read.

    Raises
    ------
    DqmFileError
        It is no JSON of DIALS, or a record contradicts itself.
    """
    try:
        content = _FILE.validate_json(text)
    except ValidationError as error:
        # the complaints about the alternative that came nearest are the last ones
        problem = error.errors(include_url=False, include_input=False)[-1]
        place = ".".join(str(part) for part in problem["loc"] if part not in ("DialsRecord", "_Page"))
        raise DqmFileError(
            f"no JSON of DIALS ({place or 'file'}: {problem['msg']}): give h1d or h2d records"
        ) from error
    records = content.results if isinstance(content, _Page) else content
    for record in [records] if isinstance(records, DialsRecord) else records:
        if record.me in paths:
            yield record, _histogram(record)


def _histogram(record: DialsRecord) -> Histogram:
    x = _edges(record, "x", record.x_min, record.x_max, record.x_bin)
    y = None
    if record.y_bin is not None:
        y = _edges(record, "y", record.y_min, record.y_max, record.y_bin)
    shape: tuple[int, ...] = (len(x) - 1,) if y is None else (len(y) - 1, len(x) - 1)
    try:
        inner = np.array(record.data, dtype=np.float64)
    except ValueError:
        inner = np.zeros(0)
    if inner.shape != shape:
        kind = "list of x_bin numbers" if y is None else "list of y_bin lists of x_bin numbers"
        raise DqmFileError(f"{_place(record)}: data is no {kind} for {shape} bins: ask DIALS for it again")
    contents = np.pad(inner, 1)
    return Histogram("th1" if y is None else "th2", x, y, contents)


def _edges(
    record: DialsRecord, axis: str, low: float | None, high: float | None, bins: float
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    if low is None or high is None or not low < high or bins != int(bins):
        raise DqmFileError(f"{_place(record)}: {axis}_min, {axis}_max and {axis}_bin make no axis: mend them")
    return np.linspace(low, high, int(bins) + 1)


def _place(record: DialsRecord) -> str:
    return f"{record.me} of run {record.run_number}, LS {record.ls_number}"
