"""Convolutions of several groups, narrow and wide, against ONNX Runtime."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backends.tvm.lowering.compiling import check


@pytest.mark.parametrize("precision", [None, "int8"])
@pytest.mark.parametrize(
    ("groups", "channels", "outputs"),
    [
        (2, 8, 8),  # narrow groups share vectors
        (8, 8, 16),  # depthwise with a multiplier
        (4, 4, 4 * 3),
        (2, 64, 64),  # each group is a product
        (2, 12, 96),
        (3, 9, 15),  # channels that no four divide
        (2, 6, 34),
        (5, 5, 10),
        (2, 2, 10),
    ],
)
def test_groups_of_any_width(
    groups: int, channels: int, outputs: int, precision: str | None
) -> None:
    text = f"""
        g (float[1,{channels},6,7] x) => (float[1,{outputs},6,7] y)
        <float[{outputs},{channels // groups},3,3] w, float[{outputs}] b>
        {{ c = Conv<pads = [1,1,1,1], group = {groups}>(x, w, b) y = Relu(c) }}"""
    assert check(text, precision, threads=2).reasons == []


@settings(max_examples=6, deadline=None, derandomize=True, database=None)
@given(
    groups=st.integers(2, 9),
    ins=st.sampled_from([4, 1, 3, 8, 20]),
    outs=st.sampled_from([2, 1, 5, 16, 24]),
    window=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
)
def test_any_groups(
    groups: int, ins: int, outs: int, window: tuple[int, int], stride: int
) -> None:
    height, width = ((7 - size) // stride + 1 for size in window)
    kernel = f"{window[0]},{window[1]}"
    text = f"""
        g (float[2,{groups * ins},7,7] x) => (float[2,{groups * outs},{height},{width}] y)
        <float[{groups * outs},{ins},{kernel}] w>
        {{ y = Conv<strides = [{stride},{stride}], group = {groups}>(x, w) }}"""
    assert check(text).reasons == []


@pytest.mark.parametrize("precision", ["int8", "bf16", "fp16"])
def test_a_narrow_model_with_groups_has_kernels_for_all_of_it(precision: str) -> None:
    text = """
        g (float[1,4,6,6] x) => (float[1,6,12,12] y)
        <float[8,4,3,3] w, float[8,4,3,3] v, float[8,6,2,2] t> {
            c = Conv<pads = [1,1,1,1]>(x, w)
            d = Conv<pads = [1,1,1,1], group = 2>(c, v)
            y = ConvTranspose<strides = [2,2]>(d, t)
        }"""
    assert check(text, precision).reasons == []
