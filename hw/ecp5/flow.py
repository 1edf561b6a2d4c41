"""Verilog to a bitstream of a Lattice ECP5, and a bitstream with other weights from the routed design.

The first takes minutes (yosys, nextpnr-ecp5, ecppack), the second seconds (ecppack alone). Refuses to know
what the design computes: a design is Verilog and the contents of its memories, which become block RAMs.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hw.ecp5 import tools
from hw.ecp5.configuration import block_rams
from hw.ecp5.netlist import Bits, Contents
from hw.ecp5.places import Places, fingerprint, numbered
from hw.ecp5.routed import RoutedDesign
from hw.ecp5.synthesis import Synthesis, write_sources
from hw.errors import ToolchainError
from hw.resources import Resources

_DEVICES = {"LFE5U-25F": "--25k", "LFE5U-45F": "--45k", "LFE5U-85F": "--85k"}
_ROUTE_TIMEOUT_S = 3600
_PACK_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class Built:
    """A bitstream and what is needed to change its weights later.

    Parameters
    ----------
    bitstream
        What the device is configured with.
    routed
        The design as it was routed.
    resources
        Of nextpnr's report.
    seconds
        Wall time of each step by name.
    """

    bitstream: bytes = field(repr=False)
    routed: RoutedDesign = field(repr=False)
    resources: Resources
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Ecp5Flow:
    """The flow for one device.

    Parameters
    ----------
    device
        LFE5U-25F, LFE5U-45F or LFE5U-85F.
    package
        As nextpnr names it; pins are assigned by nextpnr.
    speed
        Speed grade.
    clock_mhz
        What place and route aims at; less is reported, not refused.
    seed
        Of place and route: the same sources and seed give the same bitstream.

    Raises
    ------
    ToolchainError
        When there is no such device.

    Examples
    --------
    >>> flow = Ecp5Flow()
    >>> built = flow.full(sources, "top", memory)  # doctest: +SKIP
    >>> bitstream = flow.weights(built.routed, other_memory)  # doctest: +SKIP
    """

    device: str = "LFE5U-45F"
    package: str = "CABGA381"
    speed: int = 6
    clock_mhz: float = 50.0
    seed: int = 1

    def __post_init__(self) -> None:
        if self.device not in _DEVICES:
            raise ToolchainError(f"no ECP5 {self.device!r}: choose one of {', '.join(_DEVICES)}")

    @property
    def part(self) -> str:
        """The part's name, e.g. LFE5U-45F-6CABGA381."""
        return f"{self.device}-{self.speed}{self.package}"

    def full(self, sources: Mapping[str, str], top: str, memory: Contents | None = None) -> Built:
        """Synthesise, place, route and pack.

        Parameters
        ----------
        sources
            SystemVerilog by relative path.
        top
            The top module. Its memories become block RAMs.
        memory
            What its memories hold, by their names in the flattened design; left out, zeros.

        Raises
        ------
        ToolchainAbsent
            When a tool is missing; it names the commands.
        ToolchainError
            When a tool fails, or a memory does not fit into block RAMs.
        """
        paths = sorted(sources)
        tools.check(self._commands(paths, top))
        seconds: dict[str, float] = {}
        with tempfile.TemporaryDirectory(prefix="lumiwatch-ecp5-") as name:
            folder = Path(name)
            write_sources(folder, sources)
            with _timed(seconds, "synthesis"):
                synthesis = Synthesis(folder, top, paths)
                prints = synthesis.netlist(fingerprint(synthesis.memories))
            with _timed(seconds, "place and route"):
                tools.run("nextpnr-ecp5", self._route_arguments(top), folder, timeout_s=_ROUTE_TIMEOUT_S)
            with _timed(seconds, "finding memories"):
                digits = synthesis.mapped(numbered(synthesis.memories))
                text = (folder / f"{top}.config").read_text(encoding="utf-8")
                places = Places.found(synthesis.memories, digits, prints, block_rams(text))
            resources = self._resources(json.loads((folder / "report.json").read_text(encoding="utf-8")))
        routed = RoutedDesign(text, places)
        zeros = {m.name: np.zeros((m.rows, m.width), np.bool_) for m in routed.memories}
        with _timed(seconds, "packing"):
            bitstream = self.weights(routed, zeros if memory is None else memory)
        return Built(bitstream, routed, resources, seconds)

    def weights(self, routed: RoutedDesign, memory: Contents) -> bytes:
        """Give the bitstream of a routed design with other contents in its memories, without place and route.

        Parameters
        ----------
        routed
            The design.
        memory
            What all its memories hold.

        Raises
        ------
        ToolchainAbsent
            When ecppack is missing.
        ToolchainError
            When the contents do not fit the memories, or ecppack fails.
        """
        with tempfile.TemporaryDirectory(prefix="lumiwatch-ecp5-") as name:
            folder = Path(name)
            (folder / "design.config").write_text(routed.with_contents(memory), encoding="utf-8")
            tools.run("ecppack", ("design.config", "design.bit"), folder, timeout_s=_PACK_TIMEOUT_S)
            return (folder / "design.bit").read_bytes()

    def read_back(self, routed: RoutedDesign, bitstream: bytes) -> dict[str, Bits]:
        """Read from a bitstream what the memories of its design hold.

        Raises
        ------
        ToolchainAbsent
            When ecpunpack is missing.
        ToolchainError
            When it fails, or the bitstream is of another design.
        """
        with tempfile.TemporaryDirectory(prefix="lumiwatch-ecp5-") as name:
            folder = Path(name)
            (folder / "design.bit").write_bytes(bitstream)
            tools.run("ecpunpack", ("design.bit", "design.config"), folder, timeout_s=_PACK_TIMEOUT_S)
            return routed.contents_of((folder / "design.config").read_text(encoding="utf-8"))

    def _commands(self, paths: list[str], top: str) -> tuple[tuple[str, ...], ...]:
        script = f"'read_verilog -sv {' '.join(paths)}; synth_ecp5 -top {top} -json {top}.json'"
        return (
            ("yosys", "-p", script),
            ("nextpnr-ecp5", *self._route_arguments(top)),
            ("ecppack", f"{top}.config", f"{top}.bit"),
        )

    def _route_arguments(self, top: str) -> tuple[str, ...]:
        return (
            _DEVICES[self.device], "--package", self.package, "--speed", str(self.speed),
            "--json", f"{top}.json", "--textcfg", f"{top}.config", "--report", "report.json",
            "--freq", f"{self.clock_mhz:g}", "--timing-allow-fail", "--lpf-allow-unconstrained",
            "--seed", str(self.seed), "--quiet",
        )  # fmt: skip

    def _resources(self, report: dict[str, dict[str, dict[str, float]]]) -> Resources:
        used = {name: int(counts["used"]) for name, counts in report["utilization"].items()}
        clocks = [clock["achieved"] for clock in report["fmax"].values()]
        return Resources(
            source="nextpnr",
            tool=f"nextpnr-ecp5 {tools.version('nextpnr-ecp5')}",
            luts=used["TRELLIS_COMB"],
            registers=used["TRELLIS_FF"],
            dsps=used["MULT18X18D"],
            brams=used["DP16KD"],
            clock_mhz=round(min(clocks), 2) if clocks else None,
            note=f"Lattice {self.part}: block RAMs of 18 Kbit, multipliers of 18 x 18 bits, pins anywhere",
        )


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - started
