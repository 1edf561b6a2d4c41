from dataclasses import replace

import numpy as np
import pytest

from hw.errors import ToolchainError
from hw.layout import Layout
from hw.vendor.dfx import BlockMemory
from hw.vendor.memory import memory_file, weights_project
from hw.vendor.project import run
from tests.support.hw import random_model
from tests.support.vendor import fake_program, path_with

MEMORIES = {"dense2.weight": BlockMemory("*b*", 16, 8), "dense1.bias": BlockMemory("*a*", 32, 4)}
# appends what it puts into the bitstream, so that the chain of calls shows in the last one
UPDATEMEM = """\
if [ "$1" = -version ]; then echo "****** updatemem v2023.2 (64-bit)"; exit 0; fi
while [ $# -gt 0 ]; do case "$1" in
  -data) data=$2; shift;; -bit) bit=$2; shift;; -out) out=$2; shift;;
  -meminfo) test -f "$2" || exit 3; shift;;
esac; shift; done
cat "$bit" "$data" >"$out"
"""


def test_words_are_twos_complement_hexadecimal_after_an_address():
    assert memory_file([1, -1, 255, -32768], 16) == b"@00000000\n0001\nFFFF\n00FF\n8000\n"
    assert memory_file([], 8) == b"@00000000\n"
    with pytest.raises(ToolchainError, match="does not fit 8 bits"):
        memory_file([-129], 8)


@pytest.mark.parametrize("constants", [(), ("dense2.weight",)])
def test_each_memory_goes_into_the_bitstream_of_the_one_before(tmp_path, monkeypatch, constants):
    model = replace(random_model((3, 4, 2), seed=5), layout=Layout(constants=constants))
    base = tmp_path / "the base"
    base.mkdir()
    (base / "first.bit").write_text("bits\n")
    for name in ("dense1_bias", "dense2_weight"):
        (base / f"first_{name}.mmi").write_text("<MemInfo/>")
    project = weights_project(model, MEMORIES, base / "first.bit", base / "first")
    fake_program(tmp_path / "bin", "updatemem", UPDATEMEM)
    monkeypatch.setenv("PATH", path_with(tmp_path / "bin"))
    done = run(project, tmp_path / "project")
    lines = done.outputs["new_weights.bit"].read_text().split()
    bias, weight = model.layers[0].bias_raw, model.layers[1].weight_raw.ravel()
    assert lines[:2] == ["bits", "@00000000"]
    assert lines[2:6] == [f"{value & 0xFFFFFFFF:08X}" for value in bias.tolist()]
    words = np.array([int(line, 16) for line in lines[7:]], dtype=np.uint16).astype(np.int16)
    assert words.tolist() == weight.tolist()


def test_a_memory_of_another_firmware_is_refused(tmp_path):
    model = random_model((3, 4, 2))
    with pytest.raises(ToolchainError, match="another firmware"):
        weights_project(model, {"dense1.bias": BlockMemory("*", 16, 9)}, tmp_path, tmp_path)
    with pytest.raises(ToolchainError, match="run time"):
        weights_project(model, {}, tmp_path, tmp_path)
    with pytest.raises(ToolchainError, match="8, 16 or 32"):
        BlockMemory("*", 18, 9)
