"""Inputs that become constants."""

from __future__ import annotations

import numpy as np
import onnx_ir
import pytest

from gcompile import ir
from gcompile.errors import UsageError

RATES = """<ir_version: 10, opset_import: ["" : 21]>
g (float[1,n] x, int64 rate) => (float[1,m] y) <int64 wide = {16000}> {
    is_wide = Equal(rate, wide)
    y = If(is_wide) <
        then_branch = a () => (float[?,?] u) { u = Neg(x) },
        else_branch = b () => (float[?,?] v) <int64[2] two = {2, 4}> { v = Reshape(x, two) }
    >
}"""


def read(text: str) -> ir.Model:
    return onnx_ir.from_onnx_text(text)


def identity(kind: str) -> str:
    header = '<ir_version: 10, opset_import: ["" : 21]> '
    return f"{header} g ({kind} x) => ({kind} y) {{ y = Identity(x) }}"


def test_an_input_that_chooses_a_branch_can_be_frozen() -> None:
    """The other branch has no shape for these samples."""
    model = read(RATES)
    ir.freeze_inputs(model, {"rate": "16000"})
    ready = ir.prepare(model, {"x": (1, 6)})
    assert [value.name for value in ready.graph.inputs] == ["x"]
    assert ir.static_shape(ready.graph.outputs[0]) == (1, 6)


@pytest.mark.parametrize(
    ("kind", "given", "want"),
    [
        ("float[2,3]", "0.5", np.full((2, 3), 0.5, np.float32)),
        ("float[n]", "1,2.5", np.array([1, 2.5], np.float32)),
        ("bool", "true", np.array(True)),
        ("int64[1]", 7, np.array([7])),
        ("float[1,2]", np.array([[3.0, 4.0]]), np.array([[3, 4]], np.float32)),
    ],
)
def test_values_take_the_type_and_shape_of_the_input(
    kind: str, given: str | int | ir.Array, want: ir.Array
) -> None:
    model = read(identity(kind))
    ir.freeze_inputs(model, {"x": given})
    found = ir.constant_array(model.graph.node(0).inputs[0])
    assert found is not None
    assert found.dtype == want.dtype
    np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("int64", {"rat": "1"}, "an input the model does not have: rat. Its inputs are: x"),
        ("int64", {"x": "1.5"}, "1.5 is not a number of type int64"),
        ("uint8", {"x": "300"}, "300 is not a number of type uint8"),
        ("float", {"x": "fast"}, "fast is not a number of type float32"),
        ("float[2,3]", {"x": "1,2"}, r"1,2 has the shape \(2,\), and the input \[2,3\]"),
    ],
)
def test_what_does_not_fit_is_refused(kind: str, values: dict[str, str], message: str) -> None:
    model = read(identity(kind))
    with pytest.raises(UsageError, match=message):
        ir.freeze_inputs(model, values)
