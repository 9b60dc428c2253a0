"""Pools that round their size up keep the rule of opset 22 in the opset inside gcompile."""

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcompile.errors import UnsupportedOperatorsError
from gcompile.ir import OPSET, parse, static_shape

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))


def pool(operator: str, size: tuple[int, int], attributes: str) -> str:
    height, width = size
    return f"""<ir_version: 10, opset_import: ["": 22]>
        g (float[1,2,{height},{width}] x) => (float[1,2,h,w] y)
        {{ y = {operator}<ceil_mode = 1, {attributes}>(x) }}"""


@given(
    SIZES,
    st.integers(1, 3),
    st.integers(1, 4),
    st.sampled_from(["MaxPool", "AveragePool"]),
    st.data(),
)
def test_the_sizes_are_those_of_opset_22(
    size: tuple[int, int], kernel: int, stride: int, operator: str, data: st.DataObject
) -> None:
    pads = [data.draw(st.integers(0, kernel - 1)) for _ in range(4)]
    if any(length + pads[i] + pads[i + 2] < kernel for i, length in enumerate(size)):
        return
    window = f"kernel_shape = [{kernel},{kernel}], strides = [{stride},{stride}]"
    text = pool(operator, size, f"{window}, pads = {pads}")
    inferred = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text))
    try:
        ready = parse(text)
    except UnsupportedOperatorsError:
        return  # Only cropping would say it.
    assert ready.opset_imports[""] == OPSET
    expected = [dim.dim_value for dim in inferred.graph.output[0].type.tensor_type.shape.dim]
    assert list(static_shape(ready.graph.outputs[0])) == expected


def test_a_window_that_would_start_on_padding_is_left_out() -> None:
    model = parse(pool("MaxPool", (2, 2), "kernel_shape = [1,1], strides = [2,2]"))
    (y,) = model.graph.outputs
    assert y.shape == (1, 2, 1, 1)


def test_one_axis_that_follows_the_rule_and_one_that_does_not_are_refused() -> None:
    text = pool("MaxPool", (2, 5), "kernel_shape = [1,2], strides = [2,2]")
    with pytest.raises(UnsupportedOperatorsError, match="ceil_mode"):
        parse(text)
