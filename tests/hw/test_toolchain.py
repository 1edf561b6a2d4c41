import pytest

from hw.errors import ToolchainUnknown
from hw.toolchain import find_toolchain, toolchain_names


def test_hls4ml_is_there_by_name():
    assert "hls4ml" in toolchain_names()
    assert find_toolchain("hls4ml").name == "hls4ml"


def test_an_unknown_toolchain_is_refused_with_the_known_ones():
    with pytest.raises(ToolchainUnknown, match="hls4ml"):
        find_toolchain("abacus")
