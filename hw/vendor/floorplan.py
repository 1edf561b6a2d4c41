"""Where the partitions lie on the device: a small table, by hand or from a TOML file.

Refuses to know devices: whether a region exists and is large enough is the vendor tool's to say.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hw.errors import ToolchainError

_RANGE = re.compile(r"[A-Z][A-Z0-9_]*_X\d+Y\d+(:[A-Z][A-Z0-9_]*_X\d+Y\d+)?")
_SNAPPING = ("ON", "OFF", "ROUTING")


@dataclass(frozen=True, slots=True)
class Region:
    """The place of one partition.

    Parameters
    ----------
    ranges
        Vivado: ranges of sites or clock regions, e.g. `SLICE_X0Y0:SLICE_X49Y119`, `CLOCKREGION_X0Y1`.
    snapping
        Vivado: SNAPPING_MODE of the Pblock.
    box
        Quartus: x and y of the lower left, x and y of the upper right corner.
    margin
        Quartus: how far the routing region reaches around the box.

    Raises
    ------
    ToolchainError
        When one of them cannot be.
    """

    ranges: tuple[str, ...] = ()
    snapping: str = "ON"
    box: tuple[int, int, int, int] | None = None
    margin: int = 1

    def __post_init__(self) -> None:
        for item in self.ranges:
            if not _RANGE.fullmatch(item):
                raise ToolchainError(f"{item!r} is no range of sites: write e.g. SLICE_X0Y0:SLICE_X49Y119")
        if self.snapping not in _SNAPPING:
            raise ToolchainError(f"snapping {self.snapping!r} is unknown: use {', '.join(_SNAPPING)}")
        if self.box is not None:
            left, bottom, right, top = self.box
            if not (0 <= left <= right and 0 <= bottom <= top) or self.margin < 0:
                raise ToolchainError(
                    f"a box from {self.box[:2]} to {self.box[2:]} is empty: lower left corner first"
                )


@dataclass(frozen=True, slots=True)
class Floorplan:
    """The place of every partition, by its name (p0, p1, ...)."""

    regions: Mapping[str, Region] = field(default_factory=dict)

    def region(self, name: str) -> Region:
        """Give the place of one partition.

        Raises
        ------
        ToolchainError
            When it has none.
        """
        if name not in self.regions:
            raise ToolchainError(f"the floorplan has no region for partition {name}: add [partitions.{name}]")
        return self.regions[name]


def read_floorplan(path: Path) -> Floorplan:
    """Read a TOML file with one table `[partitions.NAME]` for each region; the keys are those of `Region`.

    Raises
    ------
    ToolchainError
        When it cannot be read or says something else.
    """
    try:
        content = tomllib.loads(path.read_text())
        tables = content.pop("partitions")
        if content:
            raise ToolchainError(
                f"{path}: {', '.join(content)} mean nothing in a floorplan: use [partitions.NAME]"
            )
        return Floorplan({str(name): _region(table) for name, table in tables.items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ToolchainError(f"{path} is no floorplan ({error}): see docs/vendor-toolchains.md") from error


def _region(table: Mapping[str, object]) -> Region:
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}
    return Region(**values)  # type: ignore[arg-type]  # an unknown key is a TypeError, a wrong value an error of Region
