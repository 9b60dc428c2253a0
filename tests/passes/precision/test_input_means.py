from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile import ir
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.passes.base import Arrays
from gcompile.passes.precision.affine import Affine
from gcompile.passes.precision.input_means import mean_shift, observe_input_means
from gcompile.passes.precision.reference import Reference
from gcompile.passes.precision.rounding import to_rows
from tests.passes.precision.models import fused, rows_for

MAPPING = Affine.for_range(-0.9, 1.4)
ROWS = 19
"""More than run together."""


def agrees_with_the_products(text: str, seed: int) -> None:
    """Hold the shift of the means against both products, computed."""
    model, run = fused(text, seed=seed), OnnxRuntime()
    node = next(n for n in model.graph if n.op_type in ("Conv", "MatMul", "Gemm"))
    constant = ir.constant_array(node.inputs[1])
    assert constant is not None
    weight = constant.astype(np.float32)
    stored = weight + np.float32(0.1) * weight[::-1]
    rows = rows_for(model, ROWS)
    name = str(node.name)
    means = observe_input_means(model, [(name, None), (name, MAPPING)], rows, run)
    shift = mean_shift(
        to_rows(node, weight),
        to_rows(node, stored),
        means[name, None],
        means[name, MAPPING],
    )
    want = run(model, rows)["y"].astype(np.float64)
    rounded = model.clone()
    again = next(n for n in rounded.graph if n.name == node.name)
    again.replace_input_with(1, ir.add_constant(rounded.graph, "stored", stored))
    inputs = MAPPING.round_trip(rows["x"].astype(np.float64)).astype(np.float32)
    got = run(rounded, {"x": inputs})["y"].astype(np.float64)
    channel = 1 if node.op_type == "Conv" else want.ndim - 1
    axes = tuple(axis for axis in range(want.ndim) if axis != channel)
    np.testing.assert_allclose(shift, (got - want).mean(axis=axes), rtol=1e-4, atol=2e-5)


@settings(max_examples=25)
@given(data=st.data(), is_image=st.booleans(), seed=st.integers(0, 9))
def test_the_shift_of_a_convolution(data: st.DataObject, is_image: bool, seed: int) -> None:
    rank = 2 if is_image else 1
    small = st.integers(1, 3)
    kernel = [data.draw(st.integers(1, 4)) for _ in range(rank)]
    stride = [data.draw(small) for _ in range(rank)]
    dilation = [data.draw(small) for _ in range(rank)]
    pads = [data.draw(st.integers(0, 2)) for _ in range(2 * rank)]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = [r + data.draw(st.integers(0, 5)) for r in reach]
    groups, of_group, out = data.draw(small), data.draw(small), data.draw(small)
    x = ",".join(map(str, [1, groups * of_group, *size]))
    w = ",".join(map(str, [groups * out, of_group, *kernel]))
    outputs = [
        (s + pads[i] + pads[i + rank] - reach[i]) // stride[i] + 1 for i, s in enumerate(size)
    ]
    y = ",".join(map(str, [1, groups * out, *outputs]))
    agrees_with_the_products(
        f"g (float[{x}] x) => (float[{y}] y) <float[{w}] w> {{ y = Conv<strides = {stride},"
        f" dilations = {dilation}, pads = {pads}, group = {groups}>(x, w) }}",
        seed,
    )


@settings(max_examples=10)
@given(rows=st.lists(st.integers(1, 5), max_size=2), seed=st.integers(0, 9))
def test_the_shift_of_a_matrix_product(rows: list[int], seed: int) -> None:
    x, y = (",".join(map(str, [1, *rows, depth])) for depth in (7, 5))
    agrees_with_the_products(
        f"g (float[{x}] x) => (float[{y}] y) <float[7,5] w> {{ y = MatMul(x, w) }}", seed
    )


def test_a_weight_that_is_stored_transposed() -> None:
    agrees_with_the_products(
        "g (float[1,7] x) => (float[1,5] y) <float[5,7] w> { y = Gemm<transB = 1>(x, w) }", 0
    )


def test_what_is_known_is_not_observed_again() -> None:
    model = fused("g (float[1,7] x) => (float[1,5] y) <float[7,5] w> { y = MatMul(x, w) }")
    runs = []

    def counted(asked: ir.Model, rows: Arrays) -> dict[str, ir.Array]:
        runs.append(asked)
        return OnnxRuntime()(asked, rows)

    reference = Reference(model, rows_for(model, 1), counted)
    name = next(str(node.name) for node in model.graph)
    first = reference.input_means([(name, None), (name, MAPPING)])
    assert len(runs) == 1
    again = reference.input_means([(name, MAPPING)])
    assert len(runs) == 1
    np.testing.assert_array_equal(again[name, MAPPING], first[name, MAPPING])
    assert reference.expected is reference.expected
    assert len(runs) == 2
