"""Kernels that count what they find, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import parser

from gcompile.backends.onnx_backend import GcompileBackend


def agree(text: str, inputs: dict[str, Any]) -> None:
    proto: onnx.ModelProto = parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 21]>\n{text}'
    )
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    found = GcompileBackend.run_model(proto, list(inputs.values()))
    for got, want in zip(found, session.run(None, inputs), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(0, 100))
@settings(max_examples=8, deadline=None)
def test_places_of_what_is_not_zero(shape: list[int], seed: int) -> None:
    x = np.random.default_rng(seed).integers(0, 3, shape).astype(np.float32)
    sizes = ",".join(map(str, shape))
    agree(f"g (float[{sizes}] x) => (int64[r,n] y) {{ y = NonZero(x) }}", {"x": x})


@pytest.mark.parametrize(
    "attributes", ["", "<sorted = 0>", "<axis = 0>", "<axis = 1, sorted = 0>"]
)
def test_different_elements_and_rows(attributes: str) -> None:
    x = np.random.default_rng(0).integers(0, 2, (7, 3)).astype(np.int64)
    text = f"""g (int64[7,3] x) => (int64 y, int64[n] i, int64[k] v, int64[n] c)
        {{ y, i, v, c = Unique{attributes}(x) }}""".replace("int64 y", "int64[a] y" if (
        "axis" not in attributes) else "int64[a,b] y")  # fmt: skip
    agree(text, {"x": x})


@given(st.integers(1, 2), st.integers(1, 3), st.integers(1, 19), st.integers(0, 1), st.data())
@settings(max_examples=12, deadline=None)
def test_boxes_that_overlap_no_better_one(
    batches: int, classes: int, boxes: int, centred: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    most = data.draw(st.sampled_from([1, 3, 1 << 62]))
    overlap, least = data.draw(st.sampled_from([0.0, 0.3, 0.7])), data.draw(st.floats(0, 1))
    text = f"""g (float[{batches},{boxes},4] b, float[{batches},{classes},{boxes}] s)
        => (int64[n,3] y) <int64 m = {{{most}}}, float o = {{{overlap}}}, float t = {{{least:.3}}}>
        {{ y = NonMaxSuppression<center_point_box = {centred}>(b, s, m, o, t) }}"""
    corners = rng.random((batches, boxes, 4)).astype(np.float32)
    scores = rng.integers(0, 8, (batches, classes, boxes)).astype(np.float32) / 8  # Many tie.
    agree(text, {"b": corners, "s": scores})
