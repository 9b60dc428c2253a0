"""Operators that ONNX defines by others are read in models of any opset."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

from gcompile import ir
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.testing import example_inputs

LOSSES = ("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss")
MODELS = {
    "celu": (12, "g (float[2,3] x) => (float[2,3] y) { y = Celu<alpha = 0.5>(x) }"),
    "a default attribute": (12, "g (float[2,3] x) => (float[2,3] y) { y = Celu(x) }"),
    "an operator of a later opset": (
        23,
        """g (float[2,5] x) => (float[2,5] y) <float[5] s = {1.0, 2.0, 3.0, 4.0, 5.0}>
        { y = RMSNormalization(x, s) }""",
    ),
    "outputs that are not asked for": (
        23,
        """g (float[1,2,3,4] q, float[1,2,5,4] k, float[1,2,5,4] v) => (float[1,2,3,4] y)
        { y = Attention(q, k, v) }""",
    ),
    "a definition that needs another": (
        13,
        """g (float[3,5] x, int64[3] t) => (float y)
        { y = SoftmaxCrossEntropyLoss<reduction = "mean">(x, t) }""",
    ),
    "a definition that depends on the type of a value between": (
        13,
        """g (float[3,5] x, int64[3] t) => (float[3] y)
        { l = LogSoftmax(x) y = NegativeLogLikelihoodLoss<reduction = "none">(l, t) }""",
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_definition_computes_the_same(name: str) -> None:
    opset, text = MODELS[name]
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]>\n{text}')
    for node in proto.graph.node:
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['', 'block', 'norm']")
    model = ir.prepare(onnx_ir.from_proto(proto))
    operators = {node.op_type for node in model.graph}
    assert not operators & {"Celu", "RMSNormalization", "Attention", *LOSSES}
    assert {node.domain for node in model.graph} == {""}
    assert all("block" in "".join(node.metadata_props.values()) for node in model.graph)
    inputs = example_inputs(model)
    (wanted,) = ReferenceEvaluator(proto).run(None, inputs)
    found = np.asarray(OnnxRuntime()(model, inputs)["y"], np.float64)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    onnx.checker.check_model(onnx_ir.to_proto(model))
