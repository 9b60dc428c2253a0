from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gcompile import ir
from gcompile.passes.prune.clipped import clipped, flat_outside
from gcompile.passes.prune.prune_kernels import PruneKernels
from tests.passes.precision.models import context, fused, rows_for

ROWS = st.lists(st.tuples(*[st.floats(-8, 8, width=32)] * 3), min_size=1, max_size=20).map(
    lambda rows: np.asarray(rows, np.float32).T
)
RANGES = st.sampled_from([(0.0, math.inf), (0.0, 6.0), (-math.inf, 1.0), (-1.0, 1.0)])


@given(ROWS, RANGES)
def test_targets_are_what_serves_nearest(
    values: NDArray[np.float32], flat: tuple[float, float]
) -> None:
    wanted, found, other = values
    low, high = flat
    targets = clipped(wanted, found, flat)
    np.testing.assert_array_equal(np.clip(targets, low, high), np.clip(wanted, low, high))
    assert (np.abs(targets - found) <= np.abs(wanted - found)).all()
    shown = np.abs(np.clip(other, low, high) - np.clip(wanted, low, high))
    assert (np.abs(targets - other) >= shown - 1e-6).all()


@pytest.mark.parametrize(
    ("reader", "flat"),
    [
        ("y = Relu(c)", (0.0, math.inf)),
        ("y = Clip(c, low, high)", (-1.0, 2.0)),
        ("y = Clip(c, , high)", (-math.inf, 2.0)),
        ("y = Sigmoid(c)", None),
        ("r = Relu(c) y = Add(r, c)", None),
    ],
)
def test_only_what_all_readers_flatten_is_flat(
    reader: str, flat: tuple[float, float] | None
) -> None:
    model = fused(
        f"""g (float[1,3,4,4] x) => (float[1,3,4,4] y)
        <float[3,3,1,1] w, float low = {{-1}}, float high = {{2}}> {{
            c = Conv(x, w)
            {reader}
        }}"""
    )
    (conv,) = (node for node in model.graph if node.op_type == "Conv")
    assert flat_outside(conv.outputs[0]) == flat


def test_a_refit_serves_what_a_relu_lets_through() -> None:
    """Least squares of what comes before the Relu leave more error behind it."""
    errors = []
    for hidden in ("Relu(c)", "Identity(c)"):
        text = """g (float[1,3,12,12] x) => (float[1,4,12,12] y) <float[4,3,3,3] w, float[4] b> {
            c = Conv<pads = [1,1,1,1]>(x, w, b)
            y = READER
        }"""
        model = fused(text.replace("READER", hidden))
        bias = model.graph.initializers["b"]
        bias.const_value = ir.tensor(np.full(4, -0.5, np.float32), name="b")
        rows = rows_for(model, 64)
        ctx = context(model, rows=64)
        assert ctx.run is not None
        want = np.maximum(ctx.run(model, rows)["y"].astype(np.float64), 0)
        assert PruneKernels(keep=0.67).apply(model, ctx).changed == 1
        got = np.maximum(ctx.run(model, rows)["y"].astype(np.float64), 0)
        errors.append(float(((got - want) ** 2).mean()))
    assert errors[0] < 0.97 * errors[1]
