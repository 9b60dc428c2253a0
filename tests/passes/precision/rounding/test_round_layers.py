from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gcompile import ir, testing
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.errors import UsageError
from gcompile.passes.precision import QuantizeStatic, Rounding, normalised_error
from gcompile.passes.registry import parse_pipeline
from tests.passes.precision.models import context, fused

NEAREST = QuantizeStatic(bias_correction=False)
GRAM = replace(NEAREST, rounding=Rounding.GRAM)

CONVOLUTIONS = """
    g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float[8,4,3,3] w, float[4,8,3,3] v> {
        c = Conv<pads = [1,1,1,1]>(x, w)
        r = Relu(c)
        y = Conv<pads = [1,1,1,1]>(r, v)
    }"""


def error(options: QuantizeStatic) -> float:
    """Noise over signal on rows that smooth images make, where neighbours are alike."""
    model = fused(CONVOLUTIONS)
    rng = np.random.default_rng(0)
    rows = np.cumsum(np.cumsum(rng.normal(size=(64, 4, 8, 8)), axis=2), axis=3)
    ctx = replace(context(model), calibration={"x": rows[:32].astype(np.float32)})
    unseen = {"x": rows[32:].astype(np.float32)}
    expected = OnnxRuntime()(model, unseen)
    options.run(model, ctx)
    return normalised_error(expected, OnnxRuntime()(model, unseen))


def test_the_outputs_move_less_than_with_weights_rounded_to_nearest() -> None:
    assert error(GRAM) < 0.85 * error(NEAREST)


def test_the_pass_keeps_its_contract() -> None:
    model = fused(CONVOLUTIONS)
    testing.check_pass(GRAM, model, ctx=context(model))


def test_scales_and_the_graph_are_those_of_rounding_to_nearest() -> None:
    nearest, gram = fused(CONVOLUTIONS), fused(CONVOLUTIONS)
    NEAREST.run(nearest, context(nearest))
    GRAM.run(gram, context(gram))
    assert [node.op_type for node in nearest.graph] == [node.op_type for node in gram.graph]
    scales = {name for name in nearest.graph.initializers if name.endswith("_scale")}
    assert scales == {name for name in gram.graph.initializers if name.endswith("_scale")}
    for name in scales:
        np.testing.assert_array_equal(
            ir.constant_array(nearest.graph.initializers[name]),
            ir.constant_array(gram.graph.initializers[name]),
        )


def test_weights_that_are_exact_already_stay() -> None:
    model = fused("g (float[1,2] x) => (float[1,2] y) <float[2,2] w = {1, 0, 0, 1}> {"
                  " y = Gemm(x, w) }")  # fmt: skip
    GRAM.run(model, context(model))
    assert "w_stored" in model.graph.initializers
    assert "w_stored_rounded" not in model.graph.initializers


def test_the_rounding_is_chosen_by_name() -> None:
    assert parse_pipeline("quantize-static{rounding=gram}").passes == (
        QuantizeStatic(rounding=Rounding.GRAM),
    )
    with pytest.raises(UsageError, match="nearest, gram"):
        parse_pipeline("quantize-static{rounding=up}")
