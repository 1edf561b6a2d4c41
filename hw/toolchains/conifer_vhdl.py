"""conifer's VHDL of a tree model, the top entity around it, and its simulation with GHDL.

The design takes one event per clock cycle. conifer writes trees and adder tree; the conversion of the sum and
the decision are written here. Refuses to know C++.
"""

from __future__ import annotations

import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.errors import ToolchainAbsent, ToolchainError
from hw.fixed_point import Overflow, Rounding
from hw.trees import TreeModel

GHDL_CURE = "apt-get install ghdl"
MAXIMUM_BITS = 32
"""Numbers reach conifer's VHDL through its integer type."""

_CODE_BITS = 16
_TIMEOUT_S = 600
_DESIGN = ("Constants", "Split", "Types", "Tree", "AddReduce", "Arrays0", "BDT", "BDTTop", "LumiwatchTop")
_UNUSED = ("BDTTestbench", "SimulationInput", "SimulationOutput", "TestUtil")


def number_bits(model: TreeModel) -> int:
    """Width of every number in conifer's VHDL: codes and sums share it."""
    return max(_CODE_BITS, model.sum_format.width)


def latency(model: TreeModel) -> int:
    """Clock cycles from an event to its answer: trees, one level of additions each, the score."""
    terms = (
        max(2, len(model.trees)) + 1
    )  # a lone tree gets an empty one beside it, and there is the initial value
    return max(1, model.depth) + 3 + (terms - 1).bit_length() + 1


def write(model: TreeModel, ensemble: dict[str, Any], folder: Path, part: str) -> Any:
    """Write the design below `folder` and give conifer's model of it.

    Parameters
    ----------
    model, ensemble
        The trees, and the same in conifer's terms: whole numbers, at least two trees.
    folder
        Existing or not; `firmware/`, `simulation/` and `synth.tcl` are written.
    part
        The device, for `synth.tcl`.
    """
    # imported here: conifer takes a while, and a board or a probe does not need it
    from conifer.backends.common import BottomUpDecisionTree  # noqa: PLC0415
    from conifer.backends.vhdl import set_simulator  # noqa: PLC0415
    from conifer.backends.vhdl.writer import VHDLConfig, VHDLModel  # noqa: PLC0415
    from conifer.model import ModelBase  # noqa: PLC0415

    width = number_bits(model)

    class WholeNumbers:
        """In place of conifer's converter, which compiles a Python module to round numbers."""

        def __init__(self) -> None:
            self.width = self.integer_bits = width
            self.fractional_bits = 0

        def to_int(self, value: float) -> int:
            return int(value)

    class WholeNumberModel(VHDLModel):  # type: ignore[misc] # conifer has no types
        def __init__(self, configuration: dict[str, Any]) -> None:
            ModelBase.__init__(self, ensemble, configuration)
            self.config = VHDLConfig(configuration)
            self._fp_converter = WholeNumbers()
            # the trees are padded in place: they must not share lists with `ensemble`
            self.trees = [
                [
                    BottomUpDecisionTree({key: list(content) for key, content in tree.items()}, "<=")
                    for tree in group
                ]
                for group in ensemble["trees"]
            ]
            for group in self.trees:
                for tree in group:
                    tree.padTree(self.max_depth)
                    tree.value_int = [int(value) for value in tree.value]
                    tree.threshold_int = [int(value) for value in tree.threshold]

        def save(self, filename: str | None = None) -> None:
            """Write nothing: conifer's file holds names of user and machine."""

    set_simulator("ghdl")
    made = WholeNumberModel(
        {
            "backend": "vhdl",
            "output_dir": str(folder),
            "project_name": "lumiwatch",
            "precision": f"ap_fixed<{width},{width}>",
            "xilinx_part": part,
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ResourceWarning
        )  # conifer leaves closing its files to the interpreter
        made.write()
    for name in _UNUSED:
        (folder / "firmware" / f"{name}.vhd").unlink()
    for name in ("ghdl_compile.sh", "SimulationInput.txt"):
        (folder / name).unlink()
    script = (folder / "synth.tcl").read_text().replace("-top BDTTop", "-top LumiwatchTop")
    kept = [line for line in script.splitlines() if not line.startswith("remove_files")]
    (folder / "synth.tcl").write_text("\n".join(kept) + "\n")
    (folder / "firmware" / "LumiwatchTop.vhd").write_text(_top(model))
    (folder / "simulation").mkdir()
    (folder / "simulation" / "LumiwatchTestbench.vhd").write_text(_testbench(model))
    return made


def simulate(
    model: TreeModel, folder: Path, inputs: npt.NDArray[np.int16], work: Path
) -> tuple[npt.NDArray[np.int64], int]:
    """Run the design in GHDL.

    Parameters
    ----------
    model, folder
        As for `write`.
    inputs
        int16, (n, n_inputs), n at least 1.
    work
        An existing empty folder for what GHDL writes.

    Returns
    -------
    tuple
        int64, (n, 3), sum, score and decision per event; and the clock cycles from the first event to its
        answer.

    Raises
    ------
    ToolchainAbsent
        When there is no GHDL.
    ToolchainError
        When it fails, takes longer than ten minutes or gives another number of answers.
    """
    ghdl = shutil.which("ghdl")
    if ghdl is None:
        raise ToolchainAbsent(f"GHDL is not installed: {GHDL_CURE}", (GHDL_CURE,))
    design = [str((folder / "firmware" / f"{name}.vhd").resolve()) for name in _DESIGN]
    testbench = str((folder / "simulation" / "LumiwatchTestbench.vhd").resolve())
    with (work / "events.txt").open("w") as stream:
        stream.write(f"{model.threshold_raw}\n")
        np.savetxt(stream, inputs, fmt="%d")
    _run([ghdl, "-a", "--std=08", "--work=BDT", *design], work)
    _run([ghdl, "-a", "--std=08", testbench], work)
    _run([ghdl, "--elab-run", "--std=08", "LumiwatchTestbench", "--ieee-asserts=disable-at-0"], work)
    lines = (work / "answers.txt").read_text().splitlines()
    if len(lines) != len(inputs) + 1:
        raise ToolchainError(f"GHDL gave {len(lines) - 1} answers to {len(inputs)} events: see {work}")
    return np.array([line.split() for line in lines[1:]], dtype=np.int64), int(lines[0])


def _run(command: list[str], work: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=work, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ToolchainError(f"GHDL needs more than {_TIMEOUT_S} s: simulate fewer events") from error
    if done.returncode != 0:
        first = next(
            (line for line in (done.stderr + done.stdout).splitlines() if line.strip()), "no message"
        )
        raise ToolchainError(f"GHDL failed ({first}): see {work}")


def _top(model: TreeModel) -> str:
    score, total = model.score_format, number_bits(model)
    bits = score.width
    shift = model.sum_format.fraction - score.fraction
    wide = max(total, shift + 1, total - shift, bits) + 2
    carry = "'0'"
    if shift > 0 and score.rounding is not Rounding.TRN:
        carry = f"exact({shift - 1})"
    if shift > 0 and score.rounding is Rounding.RND_CONV:
        rest = f" or (or exact({shift - 2} downto 0))" if shift > 1 else ""
        carry = f"{carry} and (exact({shift}){rest})"
    moved = f"shift_right(exact, {shift})" if shift > 0 else f"shift_left(exact, {-shift})"
    low = f"std_logic_vector(rounded({bits - 1} downto 0))"
    if score.overflow is Overflow.SAT:
        low = (
            f"std_logic_vector(to_signed({score.raw_maximum}, {wide})({bits - 1} downto 0)) "
            f"when rounded > {score.raw_maximum} else\n"
            f"    std_logic_vector(to_signed({score.raw_minimum}, {wide})({bits - 1} downto 0)) "
            f"when rounded < {score.raw_minimum} else\n    {low}"
        )
    kind = "signed" if score.signed else "unsigned"
    return f"""\
-- Structure {model.structure_hash}
-- {model.n_inputs} codes of {_CODE_BITS} bits in, the first in the lowest bits; one event per clock cycle.
-- results, from the lowest bit on: the sum ({model.sum_format}, extended to {total} bits), the score
-- ({score}), the decision; {latency(model)} clock cycles after their event.
library ieee;
use ieee.std_logic_1164.all;
use ieee.numeric_std.all;

library work;
use work.Constants.all;
use work.Types.all;

entity LumiwatchTop is
  port(
    clk : in std_logic;
    codes : in std_logic_vector({_CODE_BITS * model.n_inputs - 1} downto 0);
    codes_valid : in std_logic;
    memory : in std_logic_vector(31 downto 0); -- the threshold
    results : out std_logic_vector({total + bits} downto 0);
    results_valid : out std_logic := '0'
  );
end LumiwatchTop;

architecture rtl of LumiwatchTop is
  signal X : txArray(0 to nFeatures - 1) := (others => to_tx(0));
  signal X_vld : boolean := false;
  signal y : tyArray(0 to 0);
  signal y_vld : boolArray(0 to 0);
  signal exact, rounded : signed({wide - 1} downto 0);
  signal carry : std_logic;
  signal score : std_logic_vector({bits - 1} downto 0);
begin
  Spread : for i in 0 to nFeatures - 1 generate
    X(i) <= resize(signed(codes({_CODE_BITS} * i + {_CODE_BITS - 1} downto {_CODE_BITS} * i)), tx'length);
  end generate;
  X_vld <= codes_valid = '1';

  Trees : entity work.BDTTop
  port map(clk => clk, X => X, X_vld => X_vld, y => y, y_vld => y_vld);

  exact <= resize(y(0), {wide});
  carry <= {carry};
  rounded <= {moved} + 1 when carry = '1' else {moved};
  score <= {low};

  process(clk)
  begin
    if rising_edge(clk) then
      results({total - 1} downto 0) <= std_logic_vector(y(0));
      results({total + bits - 1} downto {total}) <= score;
      results({total + bits}) <= '0';
      if {kind}(score) > {kind}(memory({bits - 1} downto 0)) then
        results({total + bits}) <= '1';
      end if;
      results_valid <= '0';
      if y_vld(0) then
        results_valid <= '1';
      end if;
    end if;
  end process;
end rtl;
"""


def _testbench(model: TreeModel) -> str:
    total, score = number_bits(model), model.score_format
    top = total + score.width
    kind = "signed" if score.signed else "unsigned"
    return f"""\
-- Reads events.txt (the threshold, then one event per line), writes answers.txt (the latency, then sum, score
-- and decision per line).
library ieee;
use ieee.std_logic_1164.all;
use ieee.numeric_std.all;
use std.textio.all;

library BDT;

entity LumiwatchTestbench is
end LumiwatchTestbench;

architecture simulation of LumiwatchTestbench is
  signal clk : std_logic := '0';
  signal codes : std_logic_vector({_CODE_BITS * model.n_inputs - 1} downto 0) := (others => '0');
  signal codes_valid, results_valid : std_logic := '0';
  signal memory : std_logic_vector(31 downto 0) := (others => '0');
  signal results : std_logic_vector({top} downto 0);
begin
  clk <= not clk after 2.5 ns;

  Top : entity BDT.LumiwatchTop
  port map(clk, codes, codes_valid, memory, results, results_valid);

  Events : process
    file events : text open read_mode is "events.txt";
    variable row : line;
    variable number : integer;
  begin
    readline(events, row);
    read(row, number);
    memory <= std_logic_vector(to_signed(number, 32));
    while not endfile(events) loop
      readline(events, row);
      for i in 0 to {model.n_inputs - 1} loop
        read(row, number);
        codes({_CODE_BITS} * i + {_CODE_BITS - 1} downto {_CODE_BITS} * i) <=
          std_logic_vector(to_signed(number, {_CODE_BITS}));
      end loop;
      codes_valid <= '1';
      wait until rising_edge(clk);
    end loop;
    codes_valid <= '0';
    wait;
  end process;

  Answers : process(clk)
    file answers : text open write_mode is "answers.txt";
    variable row : line;
    variable cycles : natural := 0;
    variable answering : boolean := false;
  begin
    if rising_edge(clk) then
      if results_valid = '1' then
        if not answering then
          write(row, cycles);
          writeline(answers, row);
        end if;
        answering := true;
        write(row, to_integer(signed(results({total - 1} downto 0))));
        write(row, ' ');
        write(row, to_integer({kind}(results({top - 1} downto {total}))));
        write(row, ' ');
        write(row, to_integer(unsigned(results({top} downto {top}))));
        writeline(answers, row);
      elsif answering then
        std.env.finish;
      end if;
      if codes_valid = '1' or cycles > 0 then
        cycles := cycles + 1;
      end if;
    end if;
  end process;
end simulation;
"""
