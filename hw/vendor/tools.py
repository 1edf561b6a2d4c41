"""The vendors' programs on this machine: found on PATH, and believed when they say themselves what they are.

Never by import name: Python packages of the same names are other programs (PyPI's `xir` is one). Refuses to
know what the programs are run for.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

_PROBE_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Tool:
    """How one program is recognised.

    Parameters
    ----------
    arguments
        What makes it print its version, and do nothing else.
    pattern
        Regular expression that its output must match; group 1 is the version, where there is one.
    product
        What one installs to get it.
    """

    arguments: tuple[str, ...]
    pattern: str
    product: str


_QUARTUS = "Quartus Prime Pro"
TOOLS = {
    "vivado": Tool(("-version",), r"(?i)vivado v(\d{4}\.\d)", "Vivado"),
    "vitis_hls": Tool(
        ("-version",), r"(?is)vitis hls.*?(?:version|v)\s*(\d{4}\.\d)", "Vitis HLS (to 2024.1)"
    ),
    "v++": Tool(("--version",), r"(?i)v\+\+ v(\d{4}\.\d)", "Vitis (from 2023.2)"),
    "vitis-run": Tool(("--version",), r"(?i)vitis[-_ ]run v?(\d{4}\.\d)", "Vitis (from 2023.2)"),
    "updatemem": Tool(("-version",), r"(?i)updatemem v(\d{4}\.\d)", "Vivado"),
    "quartus_sh": Tool(("--version",), r"(?is)quartus prime.*?version (\d+\.\d+)", _QUARTUS),
    "quartus_cpf": Tool(("--version",), r"(?is)quartus prime.*?version (\d+\.\d+)", _QUARTUS),
    "quartus_pfg": Tool(("--version",), r"(?is)quartus prime.*?version (\d+\.\d+)", _QUARTUS),
    "vai_c_xir": Tool(("--help",), r"(?is)(?:vai_c_xir|xmodel)", "Vitis AI (its container)"),
    "docker": Tool(("--version",), r"(?i)docker version (\d+\.\d+)", "Docker"),
}
"""Every program that a project of this package may need."""


@dataclass(frozen=True, slots=True)
class Presence:
    """What was found under a program's name.

    Parameters
    ----------
    name
        The name on PATH.
    path
        Where it is; None when it is absent or another program.
    version
        As it says; "unknown" when it names none.
    reason
        One line: what is wrong, or what was found.
    """

    name: str
    path: str | None
    version: str
    reason: str


def find(name: str) -> Presence:
    """Look for a program and ask it what it is. Never raises.

    Parameters
    ----------
    name
        One of `TOOLS`, or any other program, which is then believed when it is on PATH.
    """
    path = shutil.which(name)
    if path is None:
        return Presence(name, None, "", f"{name} is not on PATH{_cure(name)}")
    tool = TOOLS.get(name)
    if tool is None:
        return Presence(name, path, "unknown", f"{name} at {path}")
    try:
        done = subprocess.run(
            [path, *tool.arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Presence(name, None, "", f"{path} does not answer {' '.join(tool.arguments)} ({error})")
    match = re.search(tool.pattern, done.stdout + done.stderr)
    if match is None:
        return Presence(
            name, None, "", f"{path} is another program than {tool.product}'s {name}{_cure(name)}"
        )
    version = match.group(1) if match.re.groups else "unknown"
    return Presence(name, path, version, f"{name} {version} at {path}")


def _cure(name: str) -> str:
    tool = TOOLS.get(name)
    return f": install {tool.product} and source its settings script" if tool else ""
