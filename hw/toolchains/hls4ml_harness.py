"""C++ around a network that hls4ml wrote with constant weights: input stage, score stage, entry points.

The stages follow `hw.arithmetic` in 64-bit integers, so only the network itself uses a vendor's number types.
Refuses to know how the network is generated: it expects the top function `lumiwatch_network`.
"""

from __future__ import annotations

from dataclasses import dataclass

from hw.arithmetic import difference_fraction
from hw.fixed_point import FixedFormat, Overflow
from hw.network import FirmwareModel
from hw.stages import ScoreStage
from hw.toolchains.sources import NETWORK

_AP_ACCESS = """\
template <class T> void put(T &value, int64_t raw) { value.range(T::width - 1, 0) = raw; }
template <class T> int64_t get(const T &value) { return value.range(T::width - 1, 0).to_uint64(); }"""

_AC_ACCESS = """\
template <class T> void put(T &value, int64_t raw) { value.set_slc(0, ac_int<T::width, false>(raw)); }
template <class T> int64_t get(const T &value) { return value.template slc<T::width>(0).to_int64(); }"""

_BY_ARRAY = """\
    source_t values[n_inputs];
    result_t results[n_outputs];
    for (int i = 0; i < n_inputs; i++)
        put(values[i], standardised[i]);
    {network}(values, results);"""

_BY_STRUCT = """\
    input_data given;
    auto &[values] = given;
    for (int i = 0; i < n_inputs; i++)
        put(values[i], standardised[i]);
    const output_data answer = {network}(given);
    const auto &[results] = answer;"""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the C++ of one backend is used.

    Parameters
    ----------
    ac
        Whether numbers are `ac_fixed`; otherwise they are `ap_fixed`.
    structs
        Whether the top function takes and gives a struct; otherwise it takes two arrays.
    text_weights
        Whether its sources read weights from text files unless they are compiled as for synthesis.
    """

    ac: bool
    structs: bool = False
    text_weights: bool = False

    def type_name(self, fmt: FixedFormat) -> str:
        """Give the C++ type of a format."""
        if not self.ac:
            return fmt.cpp
        signed = str(fmt.signed).lower()
        return f"ac_fixed<{fmt.width},{fmt.integer},{signed},AC_{fmt.rounding},AC_{fmt.overflow}>"


def harness(model: FirmwareModel, dialect: Dialect, headers: tuple[str, ...]) -> str:
    """Give `lumiwatch_csim.cpp`: one translation unit with everything in it.

    Parameters
    ----------
    model
        With a layout of one partition in which all weights and biases are constants.
    dialect
        Of the backend.
    headers
        What `parameters.h` includes of hls4ml: where weights are in text files too, it comes first.
    """
    stage, score = model.input_stage, model.score_stage
    output = model.layers[-1].result_format
    fraction = difference_fraction(stage)
    shift = fraction - stage.offset_format.fraction
    product = fraction + stage.scale_format.fraction
    (partition,) = model.partitions()
    return f"""\
// C simulation of the firmware, structure {partition.structure_hash}.
{_network_includes(dialect, headers)}
#include <cstdint>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace lumiwatch_csim {{

static const int n_inputs = {model.n_inputs};
static const int n_outputs = {model.layers[-1].n_out};
static const int n_words = {model.n_words};
typedef {dialect.type_name(stage.result_format)} source_t;
typedef {dialect.type_name(output)} result_t;

enum rounding {{ TRN, RND, RND_CONV }};

// into a format with `shift` fraction bits less
template <int shift, int width, bool is_signed, rounding mode, bool saturate> int64_t convert(int64_t raw) {{
    const int64_t low = is_signed ? -(int64_t(1) << (width - 1)) : 0;
    const int64_t high = (int64_t(1) << (width - is_signed)) - 1;
    int64_t result;
    if constexpr (shift > 0) {{
        const int64_t below = raw >> (shift - 1) & 1;
        result = raw >> shift;
        if (mode == RND)
            result += below;
        if (mode == RND_CONV)
            result += below && ((raw & ((int64_t(1) << (shift - 1)) - 1)) || (result & 1));
    }} else {{
        if (saturate && raw < (low >> -shift) - 1)
            raw = (low >> -shift) - 1;
        if (saturate && raw > (high >> -shift) + 1)
            raw = (high >> -shift) + 1;
        result = (int64_t)((uint64_t)raw << -shift);
    }}
    if (saturate)
        return result < low ? low : result > high ? high : result;
    const uint64_t bits = (uint64_t)result << (64 - width);
    return is_signed ? (int64_t)bits >> (64 - width) : (int64_t)(bits >> (64 - width));
}}

{_AC_ACCESS if dialect.ac else _AP_ACCESS}

static void network(const int64_t *standardised, int64_t *outputs) {{
{(_BY_STRUCT if dialect.structs else _BY_ARRAY).format(network=NETWORK)}
    for (int i = 0; i < n_outputs; i++)
        outputs[i] = {_wrap(output)}(get(results[i]));
}}

// inputs: events x n_inputs codes; memory: input offsets, input scales, threshold;
// answers: events x (n_outputs, score, accept)
static void run(const int64_t *inputs, int64_t events, const int32_t *memory, int64_t *answers) {{
    int64_t offset[n_inputs], scale[n_inputs], standardised[n_inputs], outputs[n_outputs];
    for (int i = 0; i < n_inputs; i++)
        offset[i] = {_wrap(stage.offset_format)}(memory[i]) * (int64_t(1) << {shift});
    for (int i = 0; i < n_inputs; i++)
        scale[i] = {_wrap(stage.scale_format)}(memory[n_inputs + i]);
    const int64_t threshold = {_wrap(score.result_format)}(memory[2 * n_inputs]);
    for (int64_t event = 0; event < events; event++) {{
        for (int i = 0; i < n_inputs; i++) {{
            const int64_t difference = *inputs++ * (int64_t(1) << {fraction}) - offset[i];
            standardised[i] = {_convert(product, stage.result_format)}(difference * scale[i]);
        }}
        network(standardised, outputs);
        for (int i = 0; i < n_outputs; i++)
            *answers++ = outputs[i];
{_score(score, output)}
        *answers++ = score;
        *answers++ = score > threshold;
    }}
}}

}} // namespace lumiwatch_csim

EXPORT const char *lumiwatch_structure() {{ return "{partition.structure_hash}"; }}
EXPORT int lumiwatch_inputs() {{ return lumiwatch_csim::n_inputs; }}
EXPORT int lumiwatch_outputs() {{ return lumiwatch_csim::n_outputs + 2; }}
EXPORT int lumiwatch_words() {{ return lumiwatch_csim::n_words; }}
EXPORT int lumiwatch_latency() {{ return 0; }}
EXPORT int lumiwatch_interval() {{ return 0; }}

EXPORT int lumiwatch_run(const int64_t *inputs, int64_t events, const int32_t *memory, int64_t *answers) {{
    if (events < 0 || !inputs || !memory || !answers)
        return 1;
    lumiwatch_csim::run(inputs, events, memory, answers);
    return 0;
}}
"""


def _score(stage: ScoreStage, output: FixedFormat) -> str:
    if stage.kind == "logit":
        convert = _convert(output.fraction, stage.result_format)
        return f"        const int64_t score = {convert}(outputs[{stage.output}]);"
    return f"""\
        int64_t squares = 0;
        for (int i = 0; i < n_outputs; i++)
            squares += outputs[i] * outputs[i];
        const int64_t score = {_convert(2 * output.fraction, stage.result_format)}(squares);"""


def _network_includes(dialect: Dialect, headers: tuple[str, ...]) -> str:
    if not dialect.text_weights:
        return f'#include "{NETWORK}.cpp"'
    first = (f'"{NETWORK}.h"', "<mc_scverify.h>", *headers)
    before = "\n".join(f"#include {header}" for header in first)
    return f"""\
// The network's own sources would read weights from text files when simulated; compiled as for synthesis they
// hold them as constants. The headers of hls4ml are the simulation's.
{before}
#define __SYNTHESIS__
#include "{NETWORK}.cpp"
#undef __SYNTHESIS__"""


def _convert(from_fraction: int, fmt: FixedFormat) -> str:
    """Name the conversion into a format; it takes one argument."""
    saturate = str(fmt.overflow is Overflow.SAT).lower()
    signed = str(fmt.signed).lower()
    return f"convert<{from_fraction - fmt.fraction}, {fmt.width}, {signed}, {fmt.rounding}, {saturate}>"


def _wrap(fmt: FixedFormat) -> str:
    """Name what takes the bits of a format as its raw value."""
    return f"convert<0, {fmt.width}, {str(fmt.signed).lower()}, TRN, false>"
