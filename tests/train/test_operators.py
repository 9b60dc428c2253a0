"""Operators in PyTorch give what ONNX Runtime gives, attributes that are rarely set included."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make check-torch")

from gcompile.train.operators import OPERATORS  # noqa: E402

pytestmark = pytest.mark.torch

_X = np.random.default_rng(7).standard_normal((2, 3, 7, 9)).astype(np.float32)
_MATRIX = np.random.default_rng(8).standard_normal((4, 5)).astype(np.float32)
_WINDOW: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2]}


@pytest.mark.parametrize(
    "attributes",
    [
        _WINDOW,
        {**_WINDOW, "pads": [1, 1, 1, 1]},
        {**_WINDOW, "pads": [1, 0, 0, 2], "count_include_pad": 1},
        {**_WINDOW, "pads": [0, 1, 1, 0], "count_include_pad": 0},
    ],
)
def test_average_pooling_counts_padding_as_asked(attributes: dict[str, Any]) -> None:
    _check("AveragePool", [_X], attributes)


@pytest.mark.parametrize(
    ("bias", "attributes"),
    [
        ((5,), {"alpha": 0.5, "beta": -2.0}),
        ((4, 1), {"beta": 3.0}),
        ((4, 5), {"transA": 1, "transB": 1}),
        (None, {"alpha": 2.0}),
    ],
)
def test_gemm_scales_and_broadcasts(
    bias: tuple[int, ...] | None, attributes: dict[str, Any]
) -> None:
    a, b = _MATRIX, _MATRIX.T @ _MATRIX
    inputs = [a.T if attributes.get("transA") else a, b.T if attributes.get("transB") else b]
    if bias is not None:
        inputs.append(np.linspace(-1, 1, int(np.prod(bias)), dtype=np.float32).reshape(bias))
    _check("Gemm", inputs, attributes)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
@pytest.mark.parametrize(("pads", "axes"), [([0, 0, 1, 2, 0, 0, 3, 0], None), ([2, 1], [-1])])
def test_padding_in_every_mode_and_over_some_axes(
    mode: str, pads: list[int], axes: list[int] | None
) -> None:
    value = np.float32(0.25) if mode == "constant" else None
    _check("Pad", [_X, pads, value, axes], {"mode": mode})


def _check(operator: str, inputs: list[Any], attributes: dict[str, Any]) -> None:
    ours = [torch.from_numpy(np.ascontiguousarray(x)) if _is_tensor(x) else x for x in inputs]
    got = OPERATORS[operator](attributes, *ours).numpy()
    np.testing.assert_allclose(got, _reference(operator, inputs, attributes), rtol=1e-4, atol=1e-5)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim > 0


def _reference(operator: str, inputs: list[Any], attributes: dict[str, Any]) -> np.ndarray:
    arrays = {f"in{i}": np.asarray(x) for i, x in enumerate(inputs) if x is not None}
    names = [f"in{i}" if x is not None else "" for i, x in enumerate(inputs)]
    node = helper.make_node(operator, names, ["out"], **attributes)
    constants = [numpy_helper.from_array(np.ascontiguousarray(a), n) for n, a in arrays.items()]
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "one", [], [output], constants)
    opset = [helper.make_opsetid("", 19)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (result,) = session.run(None, {})
    return np.asarray(result)
