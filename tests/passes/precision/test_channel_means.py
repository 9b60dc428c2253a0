from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile import ir
from gcompile.passes.precision import QuantizeStatic
from gcompile.passes.precision.affine import Affine
from gcompile.passes.precision.channel_means import met_by_weights, observe_channel_means
from gcompile.passes.precision.rounding import to_rows
from tests.passes.precision.models import CONV_CHAIN, context, fused


@settings(max_examples=12, deadline=None)
@given(
    stride=st.sampled_from([1, 2]),
    kernel=st.sampled_from([1, 3]),
    size=st.integers(5, 9),
    groups=st.sampled_from([1, 2]),
)
def test_means_of_outputs_are_those_of_an_image_of_the_means(
    stride: int, kernel: int, size: int, groups: int
) -> None:
    pad = kernel // 2
    out = (size + 2 * pad - kernel) // stride + 1
    model = fused(
        f"""g (float[1,4,{size},{size}] x) => (float[1,6,{out},{out}] y)
        <float[6,{4 // groups},{kernel},{kernel}] w> {{
            y = Conv<pads = [{pad},{pad},{pad},{pad}], strides = [{stride},{stride}],
                     group = {groups}>(x, w)
        }}"""
    )
    ctx = context(model, rows=5)
    assert ctx.run is not None
    assert ctx.calibration is not None
    (node,) = [node for node in model.graph if node.op_type == "Conv"]
    means = observe_channel_means(model, [str(node.name)], ctx.calibration, ctx.run)
    found = means[str(node.name)]
    rows = np.asarray(ctx.calibration["x"], np.float64)
    np.testing.assert_allclose(found, rows.mean(axis=(0, 2, 3)), rtol=1e-5, atol=1e-6)
    mapping = Affine.for_range(float(rows.min()), float(rows.max()))
    image = np.broadcast_to(mapping.round_trip(found)[None, :, None, None], (1, 4, size, size))
    want = ctx.run(model, {"x": np.ascontiguousarray(image, np.float32)})["y"].mean(axis=(0, 2, 3))
    weight = ir.constant_array(node.inputs[1])
    assert weight is not None
    met = met_by_weights(node, found, mapping)
    got = (to_rows(node, weight).astype(np.float64) @ met[:, :, None]).reshape(-1)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("is_small", [False, True])
def test_biases_move_only_where_they_stay_near_what_they_were(*, is_small: bool) -> None:
    text = CONV_CHAIN
    model = fused(text)
    for node in model.graph:
        if node.op_type == "Conv" and len(node.inputs) > 2:
            bias = node.inputs[2]
            assert bias is not None
            factor = 1e-9 if is_small else 1e3
            array = ir.constant_array(bias)
            assert array is not None
            bias.const_value = ir.tensor(np.full_like(array, factor), name=bias.name)
    plain, moved = model.clone(), model.clone()
    ctx = context(model)
    QuantizeStatic(bias_correction=False).run(plain, ctx)
    QuantizeStatic(channel_means=True).run(moved, replace(ctx))
    corrected = [name for name in moved.graph.initializers if name.endswith("_corrected")]
    assert not [name for name in plain.graph.initializers if name.endswith("_corrected")]
    assert bool(corrected) is not is_small
