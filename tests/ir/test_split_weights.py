from __future__ import annotations

import numpy as np

from gcompile import ir
from gcompile.backends.onnxruntime import OnnxRuntime

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'


def model() -> ir.Model:
    parsed = ir.parse(HEADER + "g (float[1,64] x) => (float[1,64] y) { y = Identity(x) }")
    rng = np.random.default_rng(0)
    weight = ir.add_constant(parsed.graph, "w", rng.standard_normal((64, 64)).astype(np.float32))
    bias = ir.add_constant(parsed.graph, "b", rng.standard_normal(64).astype(np.float32))
    ir.add_constant(parsed.graph, "unused", np.zeros(4096, np.float32))
    node = next(iter(parsed.graph))
    product = ir.Node("", "MatMul", [parsed.graph.inputs[0], weight], num_outputs=1, name="p")
    total = ir.Node("", "Add", [product.outputs[0], bias], num_outputs=1, name="s")
    for made in (product, total):
        made.outputs[0].name, made.outputs[0].dtype = f"{made.name}_out", ir.DataType.FLOAT
        made.outputs[0].shape = ir.Shape([1, 64])
    parsed.graph.insert_before(node, [product, total])
    node.replace_input_with(0, total.outputs[0])
    return parsed


def test_large_weights_come_apart_and_small_ones_stay() -> None:
    proto, weights = ir.split_weights(model())
    assert list(weights) == ["w"]
    assert {tensor.name for tensor in proto.graph.initializer} == {"w", "b"}
    assert proto.ByteSize() < weights["w"].nbytes


def test_the_model_itself_is_not_touched() -> None:
    given = model()
    before = ir.to_proto(given).SerializeToString(deterministic=True)
    ir.split_weights(given)
    assert ir.to_proto(given).SerializeToString(deterministic=True) == before


def test_a_model_runs_with_its_weights_beside_it() -> None:
    given = model()
    w, b = (ir.constant_array(given.graph.initializers[name]) for name in "wb")
    assert w is not None
    assert b is not None
    x = np.random.default_rng(1).standard_normal((1, 64)).astype(np.float32)
    want = x.astype(np.float64) @ w.astype(np.float64) + b.astype(np.float64)
    found = OnnxRuntime()(given, {"x": x})["y"].astype(np.float64)
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)


def test_a_transposed_view_runs_as_the_matrix_it_shows() -> None:
    given = model()
    w, b = (ir.constant_array(given.graph.initializers[name]) for name in "wb")
    assert w is not None
    assert b is not None
    given.graph.initializers["w"].const_value = ir.tensor(w.T, name="w")
    x = np.random.default_rng(1).standard_normal((1, 64)).astype(np.float32)
    want = x.astype(np.float64) @ w.T.astype(np.float64) + b.astype(np.float64)
    found = OnnxRuntime()(given, {"x": x})["y"].astype(np.float64)
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)
