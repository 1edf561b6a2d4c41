"""C++ of what lumiwatch puts around a generated network: input stage, score stage and the C-simulation entry.

The order of arithmetic is that of `hw.emulator`: intermediates are exact, only the named results round.
Refuses to know how the network itself is generated: it expects `lumiwatch_network(input, output, w, b, ...)`
and the type names `<layer>_weight_t` and `<layer>_bias_t`.
"""

from __future__ import annotations

from hw.fixed_point import FixedFormat
from hw.network import FirmwareModel

NETWORK = "lumiwatch_network"
TOP = "lumiwatch_top"


def _memory_arguments(model: FirmwareModel) -> list[tuple[str, str, int]]:
    """Give (type, name, words) of every segment, in the order of the memory."""
    arguments = [
        ("offset_t", "input_offset", model.n_inputs),
        ("scale_t", "input_scale", model.n_inputs),
    ]
    for layer in model.layers:
        arguments.append((f"{layer.name}_weight_t", f"{layer.name}_weight", layer.n_in * layer.n_out))
        arguments.append((f"{layer.name}_bias_t", f"{layer.name}_bias", layer.n_out))
    return [*arguments, ("score_t", "score_threshold", 1)]


def top_header(model: FirmwareModel) -> str:
    """Give `lumiwatch_top.h`: types and the signature of the firmware's top function."""
    arguments = ",\n".join(f"    {kind} {name}[{words}]" for kind, name, words in _memory_arguments(model))
    return f"""\
// Structure {model.structure_hash}
// One event in; outputs of the last layer, score and decision out.
// Every parameter is an argument: a port of the weight memory.
#ifndef LUMIWATCH_TOP_H_
#define LUMIWATCH_TOP_H_

#include "ap_fixed.h"
#include "ap_int.h"
#include "defines.h"

static const int n_inputs = {model.n_inputs};
static const int n_outputs = {model.layers[-1].n_out};
static const int n_words = {model.n_words};

typedef ap_int<16> code_t;
typedef {model.input_stage.offset_format.cpp} offset_t;
typedef {model.input_stage.scale_format.cpp} scale_t;
typedef {_total_format(model).cpp} total_t;
typedef {model.layers[-1].result_format.cpp} output_t;
typedef {model.score_stage.result_format.cpp} score_t;

void {TOP}(
    code_t codes[n_inputs],
{arguments},
    output_t outputs[n_outputs],
    score_t &score,
    ap_uint<1> &accept
);

#endif
"""


def top_source(model: FirmwareModel) -> str:
    """Give `lumiwatch_top.cpp`: input stage, network, score stage."""
    arguments = ",\n".join(f"    {kind} {name}[{words}]" for kind, name, words in _memory_arguments(model))
    network = ", ".join(f"{layer.name}_weight, {layer.name}_bias" for layer in model.layers)
    return f"""\
#include "{TOP}.h"
#include "{NETWORK}.h"

void {TOP}(
    code_t codes[n_inputs],
{arguments},
    output_t outputs[n_outputs],
    score_t &score,
    ap_uint<1> &accept
) {{
    #pragma HLS PIPELINE
    #pragma HLS ARRAY_PARTITION variable=codes complete
    #pragma HLS ARRAY_PARTITION variable=input_offset complete
    #pragma HLS ARRAY_PARTITION variable=input_scale complete
    input_t standardised[n_inputs];
    #pragma HLS ARRAY_PARTITION variable=standardised complete
    #pragma HLS ARRAY_PARTITION variable=outputs complete

InputStage:
    for (int i = 0; i < n_inputs; i++) {{
        #pragma HLS UNROLL
        standardised[i] = (codes[i] - input_offset[i]) * input_scale[i];
    }}

    {NETWORK}(standardised, outputs, {network});

{_score(model)}
    accept = score > score_threshold[0];
}}
"""


def csim_source(model: FirmwareModel) -> str:
    """Give `lumiwatch_csim.cpp`: the C simulation's entry, one translation unit with everything in it."""
    memory = _memory_arguments(model)
    declarations = "\n".join(f"    {kind} {name}[{words}];" for kind, name, words in memory)
    loads = "\n".join(f"    load({name}, memory);" for _, name, _ in memory)
    names = ", ".join(name for _, name, _ in memory)
    (partition,) = model.partitions()
    return f"""\
// C simulation of the firmware. The network's own source would read weights from text files when simulated;
// here the memory is their only source, so it is compiled as for synthesis.
#include "{TOP}.h"
#include "{NETWORK}.h"
#include "parameters.h"
#define __SYNTHESIS__
#include "{NETWORK}.cpp"
#include "{TOP}.cpp"
#undef __SYNTHESIS__
#include <cstdint>

#define EXPORT extern "C" __attribute__((visibility("default")))
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FAST __attribute__((flatten, target_clones("default", "avx2")))
#else
#define FAST
#endif

template <class T, int words> static void load(T (&parameters)[words], const int32_t *&memory) {{
    for (int i = 0; i < words; i++)
        parameters[i].range(T::width - 1, 0) = *memory++;
}}

// the value's bits, sign-extended when T is signed
template <class T> static int64_t raw(const T &value, bool is_signed) {{
    uint64_t bits = value.range(T::width - 1, 0).to_uint64();
    if (is_signed && T::width < 64 && bits >> (T::width - 1))
        bits |= ~uint64_t(0) << T::width;
    return (int64_t)bits;
}}

EXPORT const char *lumiwatch_structure() {{ return "{partition.structure_hash}"; }}
EXPORT int lumiwatch_inputs() {{ return n_inputs; }}
EXPORT int lumiwatch_outputs() {{ return n_outputs + 2; }}
EXPORT int lumiwatch_words() {{ return n_words; }}
EXPORT int lumiwatch_latency() {{ return 0; }}
EXPORT int lumiwatch_interval() {{ return 0; }}

// inputs: events x n_inputs codes; memory: n_words words; results: events x (n_outputs, score, accept)
EXPORT FAST int lumiwatch_run(const int64_t *inputs, int64_t events, const int32_t *memory,
                              int64_t *results) {{
    if (events < 0 || !inputs || !memory || !results)
        return 1;
{declarations}
{loads}
    for (int64_t event = 0; event < events; event++) {{
        code_t codes[n_inputs];
        for (int i = 0; i < n_inputs; i++)
            codes[i] = inputs[event * n_inputs + i];
        output_t outputs[n_outputs];
        score_t score;
        ap_uint<1> accept;
        {TOP}(codes, {names}, outputs, score, accept);
        for (int i = 0; i < n_outputs; i++)
            *results++ = raw(outputs[i], {str(model.layers[-1].result_format.signed).lower()});
        *results++ = raw(score, {str(model.score_stage.result_format.signed).lower()});
        *results++ = accept ? 1 : 0;
    }}
    return 0;
}}
"""


def _total_format(model: FirmwareModel) -> FixedFormat:
    """Give the format in which the sum of squares is exact, whatever the outputs."""
    output = model.layers[-1].result_format
    integer = 2 * output.integer + model.layers[-1].n_out.bit_length() + 1
    return FixedFormat(integer + 2 * output.fraction, integer)


def _score(model: FirmwareModel) -> str:
    if model.score_stage.kind == "logit":
        return f"    score = outputs[{model.score_stage.output}];"
    return """\
    total_t total = 0;
ScoreStage:
    for (int i = 0; i < n_outputs; i++) {
        #pragma HLS UNROLL
        total += outputs[i] * outputs[i];
    }
    score = total;"""
