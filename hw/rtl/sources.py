"""All files of an engine: the stages' modules, which come with this package, and what is written for a model.

They depend on the model's structure alone. Refuses to know parameter values and tools.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from hw.layout import Partition
from hw.network import FirmwareModel
from hw.rtl.harness import Edges, harness
from hw.rtl.memory_map import WINDOW_BITS, memory_map
from hw.rtl.partition import module_name, partition_module
from hw.rtl.shell import SHELL, shell_map, shell_module

MEMORY_MAP = "memory_map.json"
"""Path of the file that says where every parameter is on the shell's bus."""

_STAGES = (
    "lumiwatch_requantise.sv",
    "lumiwatch_table.sv",
    "lumiwatch_rows.sv",
    "lumiwatch_input.sv",
    "lumiwatch_dense.sv",
    "lumiwatch_score.sv",
)


def stage_sources() -> dict[str, str]:
    """Give the modules that are the same for every model, by path."""
    folder = Path(__file__).parent / "verilog"
    return {f"rtl/{name}": (folder / name).read_text() for name in _STAGES}


def partition_sources(partition: Partition, reuse: int) -> dict[str, str]:
    """Give all Verilog that one partition needs, by path."""
    name = module_name(partition)
    return {**stage_sources(), f"rtl/{name}.sv": partition_module(partition, reuse)}


def shell_sources(model: FirmwareModel, reuse: int) -> dict[str, str]:
    """Give all Verilog of the whole firmware, by path."""
    partitions = model.partitions()
    written = {f"rtl/{module_name(p)}.sv": partition_module(p, reuse) for p in partitions}
    return {**stage_sources(), **written, f"rtl/{SHELL}.sv": shell_module(partitions)}


def partition_harness(partition: Partition, reuse: int) -> str:
    """Give the simulation of one partition."""
    segments = memory_map(partition, reuse)
    return harness(Edges(partition.structure_hash, partition, partition, partition.words, segments))


def shell_harness(model: FirmwareModel, reuse: int) -> str:
    """Give the simulation of the whole firmware."""
    parts = model.partitions()
    segments = shell_map(parts, reuse)
    return harness(Edges(model.structure_hash, parts[0], parts[-1], model.n_words, segments))


def map_file(model: FirmwareModel, reuse: int) -> str:
    """Give where every segment is on the shell's bus, as JSON."""
    segments = [asdict(segment) for segment in shell_map(model.partitions(), reuse)]
    return json.dumps({"reuse": reuse, "bank_bit": WINDOW_BITS, "segments": segments}, indent=1) + "\n"


def project_files(model: FirmwareModel, reuse: int) -> Mapping[str, str]:
    """Give every file of a project, by path."""
    simulation = {f"simulation/{p.name}.cpp": partition_harness(p, reuse) for p in model.partitions()}
    return {**shell_sources(model, reuse), **simulation, MEMORY_MAP: map_file(model, reuse)}
