"""The firmware of the hls4ml toolchain as a design for Vitis HLS, with a testbench of golden vectors.

Refuses to know the tool: `hw.vendor.hls` makes the project.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from hw.emulator import Emulator
from hw.errors import ToolchainError
from hw.network import FirmwareModel
from hw.vendor.hls import HlsDesign

_TEXT_WEIGHTS = re.compile(
    r"#ifndef __SYNTHESIS__\n(?:(?!#endif).*\n)*?.*load_weights_from_txt(?:.*\n)*?#endif\n"
)


def without_text_weights(source: bytes) -> bytes:
    """Take out of hls4ml's C++ what overwrites the weights from text files in a C simulation.

    The firmware's memory is their only source.
    """
    return _TEXT_WEIGHTS.sub("", source.decode()).encode()


def hls4ml_design(
    model: FirmwareModel,
    sources: Mapping[str, bytes],
    inputs: npt.NDArray[np.int16],
    *,
    part: str = "xcvu13p-flga2577-2-e",
    clock_ns: float = 2.5,
) -> HlsDesign:
    """Give the design of a firmware that the hls4ml toolchain wrote.

    Parameters
    ----------
    model
        With the parameters that the C simulation loads.
    sources
        The firmware's sources, as `Image.sources` or a package holds them.
    inputs
        int16, (n, n_inputs): golden events; what they must give is computed by the emulator.
    part, clock_ns
        The target.

    Raises
    ------
    ToolchainError
        When the sources have no `lumiwatch_top.cpp`.
    """
    if "lumiwatch_top.cpp" not in sources:
        raise ToolchainError("these are no sources of the hls4ml toolchain: lumiwatch_top.cpp is missing")
    kept = {
        path: without_text_weights(content)
        for path, content in sources.items()
        if path != "lumiwatch_csim.cpp"
    }
    testbench = {"golden.h": _golden(model, inputs).encode(), "testbench.cpp": _testbench(model).encode()}
    return HlsDesign("lumiwatch_top", kept, testbench, part, clock_ns, events=len(inputs))


def _golden(model: FirmwareModel, inputs: npt.NDArray[np.int16]) -> str:
    scores = Emulator(model).scores(inputs)
    return f"""\
// Golden vectors of weights {model.weights_hash}
#ifndef GOLDEN_H_
#define GOLDEN_H_
static const int n_events = {len(inputs)};
static const int memory_words[{model.n_words}] = {{{_numbers(model.memory())}}};
static const short golden_codes[{max(1, inputs.size)}] = {{{_numbers(inputs)}}};
static const long long golden_scores[{max(1, len(inputs))}] = {{{_numbers(scores)}}};
#endif
"""


def _numbers(values: npt.NDArray[np.signedinteger]) -> str:
    flat = [str(int(value)) for value in values.ravel()] or ["0"]
    return "\n" + "\n".join(", ".join(flat[i : i + 20]) + "," for i in range(0, len(flat), 20)) + "\n"


def _testbench(model: FirmwareModel) -> str:
    arguments = [("offset_t", "input_offset", "n_inputs"), ("scale_t", "input_scale", "n_inputs")]
    for layer in model.layers:
        for kind, words in (("weight", layer.n_in * layer.n_out), ("bias", layer.n_out)):
            arguments.append((f"{layer.name}_{kind}_t", f"{layer.name}_{kind}", str(words)))
    arguments.append(("score_t", "score_threshold", "1"))
    declarations = "\n".join(f"    static {kind} {name}[{words}];" for kind, name, words in arguments)
    loads = "\n".join(f"    load({name}, memory);" for _, name, _ in arguments)
    names = ", ".join(name for _, name, _ in arguments)
    signed = str(model.score_stage.result_format.signed).lower()
    threshold = model.score_stage.threshold_raw
    return f"""\
// Loads the weight memory and compares score and decision of every golden event, bit by bit.
#include "lumiwatch_top.h"
#include "golden.h"
#include <cstdio>

template <class T, int words> static void load(T (&parameters)[words], const int *&memory) {{
    for (int i = 0; i < words; i++)
        parameters[i].range(T::width - 1, 0) = *memory++;
}}

int main() {{
    const int *memory = memory_words;
{declarations}
{loads}
    for (int event = 0; event < n_events; event++) {{
        code_t codes[n_inputs];
        for (int i = 0; i < n_inputs; i++)
            codes[i] = golden_codes[event * n_inputs + i];
        output_t outputs[n_outputs];
        score_t score;
        ap_uint<1> accept;
        lumiwatch_top(codes, {names}, outputs, score, accept);
        long long bits = (long long)score.range(score_t::width - 1, 0).to_uint64();
        if ({signed} && (bits >> (score_t::width - 1) & 1))
            bits -= 1LL << score_t::width;
        bool decision = accept == 1;
        if (bits != golden_scores[event] || decision != (golden_scores[event] > {threshold}LL)) {{
            std::printf("event %d: score %lld, golden %lld, accept %d\\n", event, bits,
                        golden_scores[event], decision);
            return 1;
        }}
    }}
    std::printf("%d golden events are bit-exact\\n", n_events);
    return 0;
}}
"""
