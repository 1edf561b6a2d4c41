"""What a firmware takes of a device, and who says so.

Refuses to know how a number was found: it names the tool.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Resources(BaseModel):
    """Resources and timing of one firmware or partition. What the tool does not tell is None.

    Parameters
    ----------
    source
        `estimate`: a model of the toolchain, nothing was synthesised; `yosys`: synthesis; `nextpnr`: place
        and route; `vendor`: the vendor's report.
    tool
        Name and version.
    luts, registers, dsps, brams
        Counts of the device's own units; block RAMs as the tool counts them.
    clock_mhz
        Clock the design reaches, or was asked for (see `note`).
    latency_cycles, interval_cycles
        Clock cycles from an event in to its answer, and between two events.
    note
        What a reader must know, e.g. the device family.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Literal["estimate", "yosys", "nextpnr", "vendor"]
    tool: str
    luts: int | None = None
    registers: int | None = None
    dsps: int | None = None
    brams: int | None = None
    clock_mhz: float | None = None
    latency_cycles: int | None = None
    interval_cycles: int | None = None
    note: str = ""
