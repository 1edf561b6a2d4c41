"""A Vitis HLS project of a C++ firmware: synthesis, C simulation against golden vectors, export.

For both generations of the tool: `vitis_hls -f run_hls.tcl` (to 2024.1) and `v++ -c --mode hls` with a
configuration file (from 2023.2). Refuses to know which toolchain wrote the C++.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hw.errors import ToolchainError
from hw.resources import Resources
from hw.vendor import tcl
from hw.vendor.project import VendorProject

Generation = Literal["classic", "unified"]

_COMPILED = (".cpp", ".cc", ".c")
_FLAGS = "-std=c++14"

_README = """\
{top} for {part}, {clock_ns:g} ns.

to 2024.1     vitis_hls -f run_hls.tcl
from 2023.2   {unified}

C simulation compares {events} golden events bit by bit and fails at the first difference. The result is in
{export}; resources and latency are in the report {top}_csynth.rpt.
"""


@dataclass(frozen=True, slots=True)
class HlsDesign:
    """C++ that Vitis HLS can synthesise.

    Parameters
    ----------
    top
        Name of the top function.
    sources
        Files by path; those ending in .cpp, .cc and .c are compiled, all can be included.
    testbench
        Files with a `main` that returns 0 when the simulation is right.
    part
        E.g. `xcvu13p-flga2577-2-e`.
    clock_ns
        Clock period.
    uncertainty
        Share of the period that HLS leaves for routing.
    cosimulation
        Whether the generated RTL is simulated too; takes long.
    events
        How many events the testbench compares, for the note.
    """

    top: str
    sources: Mapping[str, bytes] = field(repr=False)
    testbench: Mapping[str, bytes] = field(repr=False)
    part: str
    clock_ns: float
    uncertainty: str = "12.5%"
    cosimulation: bool = False
    events: int = 0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z_]\w*", self.top):
            raise ToolchainError(f"{self.top!r} is no name of a C++ function")
        if self.clock_ns <= 0:
            raise ToolchainError(f"a clock period of {self.clock_ns} ns is impossible: give one above 0")
        if not any(path.endswith(_COMPILED) for path in self.sources):
            raise ToolchainError(f"{self.top} has no C++ source: give at least one .cpp")


def hls_project(design: HlsDesign, generation: Generation = "unified") -> VendorProject:
    """Give the project.

    Parameters
    ----------
    design
        What to synthesise.
    generation
        Which tool `run` starts: "classic" is `vitis_hls`, "unified" is `v++` and `vitis-run`. The files of
        both are always in the project.
    """
    unified = _unified_commands(design)
    classic = ("vitis_hls -f run_hls.tcl",)
    export = f"{design.top}.zip"
    files = {f"firmware/{path}": content for path, content in design.sources.items()}
    files |= {f"testbench/{path}": content for path, content in design.testbench.items()}
    files["run_hls.tcl"] = _script(design, export).encode()
    files["hls_config.cfg"] = _configuration(design, export).encode()
    files["README.txt"] = _README.format(
        top=design.top,
        part=design.part,
        clock_ns=design.clock_ns,
        unified="\n              ".join(unified),
        events=design.events,
        export=export,
    ).encode()
    return VendorProject(
        tool="Vitis HLS",
        files=dict(sorted(files.items())),
        commands=classic if generation == "classic" else unified,
        needs=("vitis_hls",) if generation == "classic" else ("vitis-run", "v++"),
        outputs=(export,),
    )


def _script(design: HlsDesign, export: str) -> str:
    include = f'"{_FLAGS} -I$here/firmware"'
    lines = [
        "# Vitis HLS up to 2024.1: vitis_hls -f run_hls.tcl",
        "set here [file dirname [file normalize [info script]]]",
        f"open_project -reset {design.top}_project",
        f"set_top {design.top}",
        *(
            f"add_files $here/{tcl.word(path)} -cflags {include}"
            for path in _compiled(design.sources, "firmware")
        ),
        *(
            f"add_files -tb $here/{tcl.word(path)} -cflags {include}"
            for path in _compiled(design.testbench, "testbench")
        ),
        "open_solution -reset -flow_target vivado solution1",
        f"set_part {tcl.word(design.part)}",
        f"create_clock -period {design.clock_ns:g} -name default",
        f"set_clock_uncertainty {design.uncertainty}",
        *(("csim_design",) if design.testbench else ()),
        "csynth_design",
        *(("cosim_design",) if design.testbench and design.cosimulation else ()),
        f"export_design -rtl verilog -format ip_catalog -output $here/{export}",
        "exit",
    ]
    return "\n".join(lines) + "\n"


def _configuration(design: HlsDesign, export: str) -> str:
    lines = [
        f"part={design.part}",
        "",
        "[hls]",
        "flow_target=vivado",
        f"clock={design.clock_ns:g}ns",
        f"clock_uncertainty={design.uncertainty}",
        f"syn.top={design.top}",
        *(f"syn.file={path}" for path in _compiled(design.sources, "firmware")),
        f"syn.cflags={_FLAGS} -I firmware",
        *(f"tb.file={path}" for path in _compiled(design.testbench, "testbench")),
        *((f"tb.cflags={_FLAGS} -I firmware",) if design.testbench else ()),
        "package.output.format=ip_catalog",
        f"package.output.file={export}",
    ]
    return "\n".join(lines) + "\n"


def _unified_commands(design: HlsDesign) -> tuple[str, ...]:
    end = "--config hls_config.cfg --work_dir work"
    simulate = (f"vitis-run --mode hls --csim {end}",) if design.testbench else ()
    cosimulate = (f"vitis-run --mode hls --cosim {end}",) if design.testbench and design.cosimulation else ()
    return (*simulate, f"v++ -c --mode hls {end}", *cosimulate, f"vitis-run --mode hls --package {end}")


def _compiled(files: Mapping[str, bytes], folder: str) -> list[str]:
    return [f"{folder}/{path}" for path in sorted(files) if path.endswith(_COMPILED)]


def read_synthesis(folder: Path, top: str) -> Resources:
    """Read what Vitis HLS reports of a project that has been run.

    Parameters
    ----------
    folder
        Of the project; it may have been brought from another machine.
    top
        Name of the top function.

    Raises
    ------
    ToolchainError
        When there is no report, or one of another form.
    """
    reports = (folder / place / f"{top}_csynth.xml" for place in _report_folders(top))
    path = next((report for report in reports if report.is_file()), None)
    if path is None:
        raise ToolchainError(f"{folder} holds no {top}_csynth.xml: run the project where Vitis HLS is")
    text = path.read_text(errors="replace")
    used = _section(text, "Resources", path)
    period = _number(text, "EstimatedClockPeriod")
    return Resources(
        source="vendor",
        tool=f"Vitis HLS {_text_of(text, 'Version') or ''}".strip(),
        luts=_whole(used, "LUT"),
        registers=_whole(used, "FF"),
        dsps=_whole(used, "DSP48E" if "<DSP48E>" in used else "DSP"),
        brams=_whole(used, "BRAM_18K"),
        clock_mhz=1e3 / period if period else None,
        latency_cycles=_whole(text, "Worst-caseLatency"),
        interval_cycles=_whole(text, "Interval-max"),
        note="estimates of C synthesis, before place and route; block RAMs of 18 Kb",
    )


def _report_folders(top: str) -> tuple[str, ...]:
    return (f"{top}_project/solution1/syn/report", "work/hls/syn/report")


def _section(text: str, name: str, path: Path) -> str:
    match = re.search(f"<{name}>(.*?)</{name}>", text, re.DOTALL)
    if match is None:
        raise ToolchainError(f"{path} is no report of C synthesis: <{name}> is missing")
    return match.group(1)


def _text_of(text: str, name: str) -> str | None:
    match = re.search(f"<{name}>\\s*([^<]*?)\\s*</{name}>", text)
    return match.group(1) if match else None


def _number(text: str, name: str) -> float | None:
    """Give a number, or None where the tool writes none, e.g. `undef`."""
    try:
        return float(_text_of(text, name) or "none")
    except ValueError:
        return None


def _whole(text: str, name: str) -> int | None:
    value = _number(text, name)
    return None if value is None else round(value)
