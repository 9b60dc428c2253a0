from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gcompile import ir
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.errors import PassError, UsageError
from gcompile.passes import PassContext
from gcompile.passes.precision import QuantizeStatic, SmoothActivations, normalised_error
from tests.passes.precision.models import context, fused, weight_of

NORMALIZED = """
    g (float[1,4,8] x) => (float[1,4,8] y)
    <float[8] gain = {1, 1, 60, 1, 1, 1, 1, 1}, float[8] shift = {0, 0, 5, 0, 0, 0, 0, 0},
     float[8,8] w> {
        n = LayerNormalization<axis = -1>(x, gain, shift)
        y = MatMul(n, w)
    }"""


def error(passes: tuple[SmoothActivations, ...]) -> float:
    model = fused(NORMALIZED)
    ctx = context(model, rows=64)
    assert ctx.calibration is not None
    expected = OnnxRuntime()(model, ctx.calibration)
    for pass_ in passes:
        pass_.run(model, ctx)
    QuantizeStatic().run(model, ctx)
    return normalised_error(expected, OnnxRuntime()(model, ctx.calibration))


def test_an_outlying_channel_no_longer_costs_all_others_their_steps() -> None:
    model = fused(NORMALIZED)
    outlier = ir.constant_array(model.graph[0].inputs[1])
    assert outlier is not None
    assert outlier.max() == 60
    assert error((SmoothActivations(),)) < error(())


def test_scales_follow_the_formula() -> None:
    model = fused(
        """g (float[4,2] x) => (float[4,1] y)
        <float[2,2] w = {1, 0, 0, 1}, float[2,1] v = {1, 4}> {
            m = MatMul(x, w)
            y = MatMul(m, v)
        }"""
    )
    rows = np.array([[16, 1], [-2, -1], [0, 0.5], [3, 0]], np.float32)
    ctx = replace(context(model), calibration={"x": rows})
    SmoothActivations(alpha=0.5).run(model, ctx)
    scales = np.array([16**0.5 / 1**0.5, 1**0.5 / 4**0.5])
    scales /= np.sqrt(scales.prod())
    first, second = model.graph[0], model.graph[1]
    np.testing.assert_allclose(weight_of(first), np.diag(1 / scales), rtol=1e-6)
    np.testing.assert_allclose(weight_of(second), (np.array([1, 4]) * scales)[:, None], rtol=1e-6)


def test_rows_are_needed_only_where_something_can_be_scaled() -> None:
    model = fused(NORMALIZED)
    without = replace(context(model), calibration=None)
    with pytest.raises(PassError, match="needs calibration rows"):
        SmoothActivations().run(model, without)
    plain = fused("g (float[2,2] x) => (float[2,2] y) <float[2,2] w> { y = MatMul(x, w) }")
    assert isinstance(without, PassContext)
    assert SmoothActivations().run(plain, without) == 0


def test_alpha_is_a_share() -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        SmoothActivations(alpha=1.5)
