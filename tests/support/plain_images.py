"""Real partition images within a second, in plain C++: for tests of boards whose firmware has partitions.

They compute what `hw.emulator` computes, for formats that round half up and saturate, and export the
functions every image exports. The packages around them are signed; their bench is a fake.
"""

import subprocess
from dataclasses import replace

from hw.fixed_point import FixedFormat
from hw.layout import Layout
from hw.package import write_package
from hw.signing import create_signing_key
from tests.support.hw import SignedPackages, random_inputs, random_model

_HEAD = """
#include <stdint.h>
#include <vector>
static int64_t fit(int64_t value, int shift, int64_t low, int64_t high) {
  if (shift > 0) value = (value + (int64_t(1) << (shift - 1))) >> shift;
  else value <<= -shift;
  return value < low ? low : value > high ? high : value;
}
extern "C" {
"""


def _fit(value, fraction, fmt):
    assert (fmt.rounding, fmt.overflow) == ("RND", "SAT")
    return f"fit({value}, {fraction - fmt.fraction}, {fmt.raw_minimum}, {fmt.raw_maximum})"


def source(partition) -> str:
    """Write a partition in C++."""
    at = {segment.name: segment.start - partition.start for segment in partition.segments()}
    model = partition.model
    code = [f"std::vector<int64_t> x(in, in + {partition.n_in}), y;"]
    fraction = partition.source_format.fraction
    if partition.first:
        stage = model.input_stage
        assert stage.offset_format.fraction == 0
        product = f"(x[i] - m[{at['input.offset']} + i]) * m[{at['input.scale']} + i]"
        fitted = _fit(product, stage.scale_format.fraction, stage.result_format)
        code.append(f"for (int i = 0; i < {partition.n_in}; i++) x[i] = {fitted};")
        fraction = stage.result_format.fraction
    for layer in partition.layers:
        exact = fraction + layer.weight_format.fraction
        weight, bias = at[f"{layer.name}.weight"], at[f"{layer.name}.bias"]
        fitted = _fit("sum", exact, layer.result_format)
        result = f"sum > 0 ? {fitted} : 0" if layer.activation == "relu" else fitted
        code.append(
            f"y.assign({layer.n_out}, 0); for (int o = 0; o < {layer.n_out}; o++) {{"
            f" int64_t sum = int64_t(m[{bias} + o]) << {exact - layer.bias_format.fraction};"
            f" for (int i = 0; i < {layer.n_in}; i++) sum += x[i] * m[{weight} + i * {layer.n_out} + o];"
            f" y[o] = {result}; }} x = y;"
        )
        fraction = layer.result_format.fraction
    code.append(f"for (int o = 0; o < {partition.n_out}; o++) out[o] = x[o];")
    if partition.last:
        score = _fit("sum", 2 * fraction, model.score_stage.result_format)
        code.append(
            f"int64_t sum = 0; for (int64_t v : x) sum += v * v; sum = {score};"
            f" out[{partition.n_out}] = sum; out[{partition.n_out + 1}] = sum > m[{at['score.threshold']}];"
        )
    body = "\n  ".join(code)
    return (
        _HEAD
        + f'const char *lumiwatch_structure(void) {{ return "{partition.structure_hash}"; }}\n'
        + f"int lumiwatch_inputs(void) {{ return {partition.n_in}; }}\n"
        + f"int lumiwatch_outputs(void) {{ return {partition.n_outputs}; }}\n"
        + f"int lumiwatch_words(void) {{ return {partition.words}; }}\n"
        + "int lumiwatch_latency(void) { return 0; }\nint lumiwatch_interval(void) { return 0; }\n"
        + "static void one(const int64_t *in, const int32_t *m, int64_t *out) {\n  "
        + body
        + "\n}\nint lumiwatch_run(const int64_t *in, int64_t events, const int32_t *m, int64_t *out) {\n"
        + f"  for (int64_t e = 0; e < events; e++) one(in + e * {partition.n_in}, m, out + e *"
        + f" {partition.n_outputs});\n  return 0;\n}}\n}}\n"
    )


def build_images(folder, model) -> dict[str, bytes]:
    """Compile every partition of a model."""
    images = {}
    for partition in model.partitions():
        path = folder / f"{partition.structure_hash[:16]}.cpp"
        if not path.with_suffix(".so").exists():
            path.write_text(source(partition))
            options = ["-O1", "-shared", "-fPIC", "-Wl,--build-id=none"]
            subprocess.run(
                ["g++", *options, str(path), "-o", str(path.with_suffix(".so"))], check=True, timeout=120
            )
        images[partition.name] = path.with_suffix(".so").read_bytes()
    return images


def partitioned_packages(folder, bench, toolchain) -> SignedPackages:
    """Build packages of a network in two partitions.

    `first` and `second` differ in weights only; `other` computes something else in its second partition and
    fits into the same static part. `bench` and `toolchain` are those of any real package.
    """
    key = create_signing_key(folder / "builder.key")
    key.trusted.write(folder / "builder.pub")

    def package(name, model):
        model = replace(model, layout=Layout("plain", cuts=(1,)))
        hashes = {"structure_hash": model.structure_hash, "weights_hash": model.weights_hash}
        return write_package(
            folder / f"{name}.lwpkg",
            model=model,
            images=build_images(folder, model),
            golden_inputs=random_inputs(200, model.n_inputs),
            bench=bench.model_copy(update=hashes),
            toolchain=toolchain,
            version=name,
            key=key,
        )

    model = random_model((12, 8, 6, 4), seed=1, threshold=300.0)
    finer = replace(model.layers[1], result_format=FixedFormat.parse("fixed<20,8,RND,SAT>"))
    return SignedPackages(
        folder,
        key,
        folder / "builder.key",
        folder / "builder.pub",
        package("first", model),
        package("second", random_model((12, 8, 6, 4), seed=2, threshold=300.0)),
        package("other", replace(model, layers=(model.layers[0], finer, model.layers[2]))),
    )
