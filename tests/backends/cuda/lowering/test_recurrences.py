"""Recurrent nets in one launch, against ONNX Runtime."""

from __future__ import annotations

import itertools

import numpy as np
import onnx_ir
import pytest
from onnx import helper, numpy_helper

from gcompile import ir
from gcompile.backends.cuda.build import CudaCode
from gcompile.backends.cuda.host_form import why_unavailable
from gcompile.backends.cuda.lowering.model import lower_model
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.energy import Roofline
from gcompile.passes import PassContext
from gcompile.passes.pipelines import exact_pipeline
from gcompile.targets import load_target

pytestmark = pytest.mark.skipif(bool(why_unavailable()), reason="no C++ compiler is installed")

_STEPS, _BATCH, _DEPTH, _HIDDEN = 5, 3, 6, 37
_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def _net(operator: str, direction: str, *, first: bool, resets_inside: bool) -> ir.Model:
    rng = np.random.default_rng(0)
    count = 2 if direction == "bidirectional" else 1
    rows = _GATES[operator] * _HIDDEN
    weights = {
        "w": rng.standard_normal((count, rows, _DEPTH)),
        "r": 0.3 * rng.standard_normal((count, rows, _HIDDEN)),
        "b": rng.standard_normal((count, 2 * rows)),
    }
    state = (count, _BATCH, _HIDDEN)
    results = {"y": (_STEPS, *state), "h": state}
    if operator == "LSTM":
        results["c"] = state
    firsts = (["h0", "c0"] if operator == "LSTM" else ["h0"]) if first else []
    options = {"linear_before_reset": 1} if resets_inside else {}
    node = helper.make_node(
        operator,
        ["x", "w", "r", "b", *([""] if firsts else []), *firsts],
        list(results),
        direction=direction,
        hidden_size=_HIDDEN,
        **options,
    )
    graph = helper.make_graph(
        [node],
        "net",
        [
            helper.make_tensor_value_info(name, 1, shape)
            for name, shape in {
                "x": (_STEPS, _BATCH, _DEPTH),
                **dict.fromkeys(firsts, state),
            }.items()
        ],
        [helper.make_tensor_value_info(name, 1, shape) for name, shape in results.items()],
        [
            numpy_helper.from_array(array.astype(np.float32), name)
            for name, array in weights.items()
        ],
    )
    return ir.prepare(
        onnx_ir.from_proto(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        )
    )


@pytest.mark.parametrize(
    ("operator", "direction"),
    list(itertools.product(_GATES, ["forward", "reverse", "bidirectional"])),
)
@pytest.mark.parametrize("first", [False, True])
def test_every_net_gives_what_onnx_says(operator: str, direction: str, first: bool) -> None:
    for resets_inside in (False, True) if operator == "GRU" else (False,):
        model = _net(operator, direction, first=first, resets_inside=resets_inside)
        target = load_target("nvidia-a100")
        exact_pipeline().apply(model, PassContext(target=target, energy=Roofline()))
        lowered = lower_model(model, target, 80)
        assert not lowered.fallbacks
        code = CudaCode(lowered.program, model, target, 1, 80, (), 0, {})
        rng = np.random.default_rng(1)
        inputs = {
            str(v.name): rng.standard_normal(ir.static_shape(v)).astype(np.float32)
            for v in model.graph.inputs
        }
        assert code.on_cpu is not None
        got, want = code.on_cpu(inputs), OnnxRuntime()(model, inputs)
        for name, result in want.items():
            expected = np.asarray(result, np.float32)
            np.testing.assert_allclose(got[name], expected, atol=1e-5)
