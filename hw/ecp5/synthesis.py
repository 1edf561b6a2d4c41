"""Synthesis with yosys: a netlist for place and route, and what block RAMs make of any contents.

Refuses to know place and route.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from hw.ecp5 import netlist, tools
from hw.ecp5.netlist import Blocks, Contents, Memory
from hw.errors import ToolchainError

_TIMEOUT_S = 1200
_PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*")


class Synthesis:
    """One design, in a folder of its own.

    Parameters
    ----------
    folder
        Where the sources are and the tools work.
    top
        The top module.
    paths
        SystemVerilog, relative to the folder.

    Raises
    ------
    ToolchainError
        When yosys refuses the sources, or the design has no memory.
    """

    def __init__(self, folder: Path, top: str, paths: Sequence[str]) -> None:
        self._folder, self._top = folder, top
        self._yosys(
            f"read_verilog -sv {' '.join(paths)}",
            f"synth_ecp5 -top {top} -run begin:map_ram",
            f"select {top}",
            "write_rtlil -selected coarse.il",
        )
        self._coarse = (folder / "coarse.il").read_text(encoding="utf-8")
        self.memories: tuple[Memory, ...] = netlist.memories(self._coarse)
        if not self.memories:
            raise ToolchainError(
                f"{top} has no memory: there are no weights to change, use the tools themselves"
            )

    def netlist(self, contents: Contents) -> Blocks:
        """Write `<top>.json` with these contents in the memories; give the words of its block RAMs."""
        self._write(self._top, contents)
        self._yosys(
            f"read_rtlil {self._top}.il",
            f"synth_ecp5 -top {self._top} -run begin:coarse",
            f"synth_ecp5 -top {self._top} -run map_ram:map_ffram",
            *self._mapped(self._top),
            f"synth_ecp5 -top {self._top} -run map_ffram: -json {self._top}.json",
        )
        return self._blocks(self._top)

    def mapped(self, trials: Sequence[Contents]) -> list[Blocks]:
        """Give the words of the block RAMs for several contents, without the rest of the synthesis."""
        names = [f"{self._top}_trial{number}" for number in range(len(trials))]
        for name, contents in zip(names, trials, strict=True):
            self._write(name, contents)
        first, *others = names
        self._yosys(
            f"read_rtlil {first}.il",
            f"synth_ecp5 -top {first} -run begin:coarse",
            *(f"read_rtlil {name}.il" for name in others),
            f"synth_ecp5 -top {first} -run map_ram:map_ffram",
            *(line for name in names for line in self._mapped(name)),
        )
        return [self._blocks(name) for name in names]

    def _write(self, name: str, contents: Contents) -> None:
        design = netlist.renamed(netlist.with_contents(self._coarse, contents), self._top, name)
        (self._folder / f"{name}.il").write_text(design, encoding="utf-8")

    def _mapped(self, name: str) -> tuple[str, ...]:
        return (f"select {name}/t:DP16KD", f"write_rtlil -selected {name}.mapped.il", "select -clear")

    def _blocks(self, name: str) -> Blocks:
        return netlist.block_rams((self._folder / f"{name}.mapped.il").read_text(encoding="utf-8"))

    def _yosys(self, *lines: str) -> None:
        (self._folder / "script.ys").write_text("\n".join(lines) + "\n", encoding="utf-8")
        tools.run("yosys", ("-q", "-s", "script.ys"), self._folder, timeout_s=_TIMEOUT_S)


def write_sources(folder: Path, sources: Mapping[str, str]) -> None:
    """Write sources by relative path.

    Raises
    ------
    ToolchainError
        When a path would leave the folder, or could mean something else in a script.
    """
    for path, content in sources.items():
        target = folder / path
        if not _PATH.fullmatch(path) or not target.resolve().is_relative_to(folder.resolve()):
            raise ToolchainError(f"source {path!r} would leave its folder: give a plain relative path")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
