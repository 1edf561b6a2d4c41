"""C++ around conifer's own evaluation of trees: the nodes as constants, and the entry of an image.

conifer's header reads a model from a JSON file when it starts. A small stand-in for the JSON library hands it
constants instead, so that an image needs no file. Refuses to know how the trees came about.
"""

from __future__ import annotations

from collections.abc import Iterable

from hw.fixed_point import FixedFormat, Overflow, Rounding
from hw.trees import LEAF, TreeModel

CONIFER_LEAF = -2

STAND_IN = """\
// What conifer.h asks of the JSON library, answered with the constants of this firmware.
#ifndef LUMIWATCH_JSON_STAND_IN_H_
#define LUMIWATCH_JSON_STAND_IN_H_

#include <algorithm>
#include <functional>
#include <iterator>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

namespace lumiwatch { struct Constants; }

#define NLOHMANN_DEFINE_TYPE_INTRUSIVE(Type, ...) friend struct ::lumiwatch::Constants;

namespace nlohmann {
struct json {
    template <class Stream> static json parse(Stream &) { return {}; }
    std::string value(const char *, const char *) const { return "<="; }
};
template <class Model> void from_json(const json &, Model &model);
}

#endif
"""


def constants(model: TreeModel) -> str:
    """Give `lumiwatch_constants.h`: every node, as raw integers."""
    columns = ("feature", "threshold", "left", "right", "value")
    tables = {name: [number for tree in model.trees for number in getattr(tree, name)] for name in columns}
    tables["feature"] = [CONIFER_LEAF if number == LEAF else number for number in tables["feature"]]
    arrays = "\n".join(_array(name, values) for name, values in tables.items())
    return f"""\
// Structure {model.structure_hash}
// values in units of {model.value_format}, thresholds in input codes
#include <cstdint>

static const int n_inputs = {model.n_inputs}, n_trees = {len(model.trees)};
static const int64_t initial = {model.initial_raw};
{_array("sizes", [tree.n_nodes for tree in model.trees])}
{arrays}
"""


def image(model: TreeModel, latency: int) -> str:
    """Give `lumiwatch_image.cpp`: conifer's evaluation, the score's conversion, an image's C functions.

    Parameters
    ----------
    model
        The model.
    latency
        Clock cycles of the VHDL from an event to its answer.
    """
    return f"""\
#include "conifer.h"
#include "lumiwatch_constants.h"
#include <cstdint>

#define EXPORT extern "C" __attribute__((visibility("default")))

// codes, thresholds and sums are whole numbers here: nothing is rounded before the score
struct Types : conifer::ConiferConfiguration {{
    typedef int32_t threshold_t;
    typedef int32_t input_t;
    typedef int32_t weight_t;
    typedef int64_t score_t;
    static constexpr bool useAddTree = false;
}};

struct lumiwatch::Constants {{
    static void fill(conifer::BDT<Types> &model) {{
        model.n_classes = 1, model.n_trees = n_trees, model.n_features = n_inputs, model.norm = 1;
        model.init_predict = {{(double)initial}};
        model.trees.resize(n_trees);
        for (int tree = 0, start = 0; tree < n_trees; start += sizes[tree++]) {{
            model.trees[tree].resize(1);
            auto &nodes = model.trees[tree][0];
            for (int node = start; node < start + sizes[tree]; node++) {{
                nodes.feature.push_back(feature[node]);
                nodes.threshold.push_back(threshold[node]);
                nodes.children_left.push_back(left[node]);
                nodes.children_right.push_back(right[node]);
                nodes.value.push_back(value[node]);
                nodes.weight.emplace_back(n_inputs, 0.0);
                if (feature[node] >= 0)
                    nodes.weight.back()[feature[node]] = 1;
            }}
        }}
    }}
}};

template <class Model> void nlohmann::from_json(const json &, Model &model) {{
    lumiwatch::Constants::fill(model);
}}

{_conversion(model.sum_format.fraction, model.score_format)}

EXPORT const char *lumiwatch_structure(void) {{ return "{model.structure_hash}"; }}
EXPORT int lumiwatch_inputs(void) {{ return n_inputs; }}
EXPORT int lumiwatch_outputs(void) {{ return 3; }}
EXPORT int lumiwatch_words(void) {{ return 1; }}
EXPORT int lumiwatch_latency(void) {{ return {latency}; }}
EXPORT int lumiwatch_interval(void) {{ return 1; }}

// inputs: events x n_inputs codes; memory: the threshold; outputs: sum, score, decision per event
EXPORT int lumiwatch_run(const int64_t *inputs, int64_t events, const int32_t *memory, int64_t *outputs) {{
    if (events < 0 || !inputs || !memory || !outputs)
        return 1;
    static const conifer::BDT<Types> model("");
    for (int64_t event = 0; event < events; event++) {{
        std::vector<int32_t> codes(inputs + event * n_inputs, inputs + (event + 1) * n_inputs);
        int64_t sum = model.decision_function(codes)[0], score = to_score(sum);
        outputs[3 * event] = sum;
        outputs[3 * event + 1] = score;
        outputs[3 * event + 2] = score > memory[0];
    }}
    return 0;
}}
"""


def _conversion(fraction: int, fmt: FixedFormat) -> str:
    """Give the C++ that converts a sum with `fraction` fraction bits into the score's format."""
    shift = fraction - fmt.fraction
    # a multiplication, as shifting a negative number left is not defined
    lines = [f"    int64_t value = {f'sum >> {shift}' if shift >= 0 else f'sum * ((int64_t)1 << {-shift})'};"]
    if shift > 0 and fmt.rounding is not Rounding.TRN:
        carry = f"(sum >> {shift - 1} & 1)"
        if fmt.rounding is Rounding.RND_CONV:
            carry += f" & ((sum & {(1 << (shift - 1)) - 1}) != 0 | (value & 1))"
        lines.append(f"    value += {carry};")
    if fmt.overflow is Overflow.SAT:
        lines.append(
            f"    return value > {fmt.raw_maximum} ? {fmt.raw_maximum} : "
            f"value < {fmt.raw_minimum} ? {fmt.raw_minimum} : value;"
        )
    else:
        mask, sign = (1 << fmt.width) - 1, 1 << (fmt.width - 1)
        low = f"value & {mask}"
        lines.append(f"    return {f'(({low}) ^ {sign}) - {sign}' if fmt.signed else low};")
    body = "\n".join(lines)
    return f"static int64_t to_score(int64_t sum) {{\n{body}\n}}"


def _array(name: str, values: Iterable[int]) -> str:
    return f"static const int {name}[] = {{{', '.join(str(value) for value in values)}}};"
