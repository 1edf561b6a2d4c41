"""QONNX graphs for tests, and an executor of its own that follows the definition of Quant in float64."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

DOMAIN = "qonnx.custom_op.general"

ROUNDINGS = {
    "ROUND": np.rint,
    "FLOOR": np.floor,
    "CEIL": np.ceil,
    "DOWN": np.trunc,
    "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5),
}


class GraphMaker:
    """Writes one chain, node by node; `content()` is the file."""

    def __init__(self, n_inputs, *, domain=DOMAIN, shape=None):
        self.nodes, self.initializers = [], []
        self.shape = shape or (1, n_inputs)
        self.domain = domain
        self.current = "x"

    def constant(self, values, dtype=np.float32):
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def node(self, op, *constants, data=None, domain="", **attributes):
        output = f"t{len(self.nodes)}"
        inputs = [self.current if data is None else data, *constants]
        self.nodes.append(helper.make_node(op, inputs, [output], output, domain=domain, **attributes))
        if data is None:
            self.current = output
        return output

    def quant(self, bits, scale, *, signed=1, narrow=0, rounding="ROUND", zero=0.0, data=None, op="Quant"):
        parameters = [self.constant(value) for value in (scale, zero, bits)]
        settings = {"signed": signed, "narrow": narrow, "rounding_mode": rounding}
        return self.node(op, *parameters, data=data, domain=self.domain, **settings)

    def dense(
        self, weight, bias=None, *, weight_bits=6, weight_scale=2.0**-4, bias_scale=2.0**-8, **settings
    ):
        """Add MatMul and Add with quantised constants; weight is (n_in, n_out)."""
        self.node(
            "MatMul", self.quant(weight_bits, weight_scale, data=self.constant(weight), narrow=1, **settings)
        )
        if bias is not None:
            self.node("Add", self.quant(12, bias_scale, data=self.constant(bias)))

    def model(self):
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)]
        outputs = [helper.make_tensor_value_info(self.current, TensorProto.FLOAT, None)]
        graph = helper.make_graph(self.nodes, "test", inputs, outputs, self.initializers)
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(self.domain, 2)]
        return helper.make_model(graph, opset_imports=opsets)

    def content(self):
        return self.model().SerializeToString()


def execute(model, events):
    """Give a graph's output for events, float64 (n, features): every node as its standard says."""
    values = {one.name: numpy_helper.to_array(one).astype(np.float64) for one in model.graph.initializer}
    values[model.graph.input[0].name] = events
    for node in model.graph.node:
        attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        given = [values[name] for name in node.input]
        values[node.output[0]] = _OPERATIONS[node.op_type](attributes, *given)
    return values[model.graph.output[0].name]


def _quant(attributes, x, scale, zero, bits):
    signed, narrow = attributes["signed"], attributes["narrow"]
    low = -(2.0 ** (bits - 1)) + narrow if signed else 0.0
    high = 2.0 ** (bits - 1) - 1 if signed else 2.0**bits - 1 - narrow
    rounded = ROUNDINGS[attributes["rounding_mode"].decode()](x / scale + zero)
    return (np.clip(rounded, low, high) - zero) * scale


def _gemm(attributes, a, b, c=0.0):
    return a @ (b.T if attributes.get("transB") else b) + c


def _normalise(attributes, x, weight, bias, mean, variance):
    return (x - mean) / np.sqrt(variance + attributes["epsilon"]) * weight + bias


_OPERATIONS = {
    "Quant": _quant,
    "IntQuant": _quant,
    "Gemm": _gemm,
    "BatchNormalization": _normalise,
    "MatMul": lambda _, a, b: a @ b,
    "Add": lambda _, a, b: a + b,
    "Sub": lambda _, a, b: a - b,
    "Mul": lambda _, a, b: a * b,
    "Div": lambda _, a, b: a / b,
    "Relu": lambda _, x: np.maximum(x, 0.0),
    "Identity": lambda _, x: x,
    "Dropout": lambda _, x: x,
    "Constant": lambda attributes: numpy_helper.to_array(attributes["value"]).astype(np.float64),
    "Flatten": lambda _, x: x.reshape(len(x), -1),
    "Reshape": lambda _, x, shape: x.reshape(len(x), *(int(size) for size in shape[1:])),
    "Transpose": lambda attributes, x: np.transpose(x, attributes.get("perm")),
}
