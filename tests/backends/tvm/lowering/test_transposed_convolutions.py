"""Transposed convolutions of every geometry, against ONNX Runtime."""

from __future__ import annotations

import pytest

from tests.backends.tvm.lowering.compiling import check


@pytest.mark.parametrize("precision", [None, "int8"])
@pytest.mark.parametrize(
    ("attributes", "size", "weight", "outputs"),
    [
        ("strides = [2,2]", "11,11", "4,6,3,3", 6),
        ("pads = [1,1,1,1]", "5,5", "4,6,3,3", 6),
        ("strides = [3,2], output_padding = [1,0]", "16,11", "4,6,3,3", 6),
        ("group = 2", "7,7", "4,3,3,3", 6),
        ("group = 2, strides = [2,2]", "10,10", "4,20,2,2", 40),
        ("strides = [2,2], dilations = [2,1], pads = [1,0,2,1]", "10,10", "4,8,3,3", 8),
        ("strides = [2,3], auto_pad = \"SAME_UPPER\"", "10,15", "4,8,3,4", 8),
        ("strides = [2,3], auto_pad = \"SAME_LOWER\"", "10,15", "4,8,4,5", 8),
        ("strides = [3,3]", "14,13", "4,8,2,1", 8),
    ],
)  # fmt: skip
def test_images(
    attributes: str, size: str, weight: str, outputs: int, precision: str | None
) -> None:
    text = f"""
        g (float[1,4,5,5] x) => (float[1,{outputs},{size}] y)
        <float[{weight}] w, float[{outputs}] b>
        {{ c = ConvTranspose<{attributes}>(x, w, b) y = Relu(c) }}"""
    assert check(text, precision, threads=2).reasons == []


def test_lines_in_bfloat16() -> None:
    text = """
        g (float[2,6,9] x) => (float[2,5,18] y) <float[6,5,4] w>
        { y = ConvTranspose<strides = [2], pads = [1,1]>(x, w) }"""
    assert check(text, "bf16").reasons == []


def test_an_output_shape_decides_the_padding() -> None:
    text = """
        g (float[1,4,5,5] x) => (float[1,8,10,9] y) <float[4,8,3,3] w>
        { y = ConvTranspose<strides = [2,2], output_shape = [10,9]>(x, w) }"""
    assert check(text).reasons == []


def test_a_convolution_before_writes_the_halo_that_is_read() -> None:
    text = """
        g (float[1,3,6,6] x) => (float[1,4,12,12] y)
        <float[8,3,3,3] w, float[8,4,4,4] v> {
            c = Conv<pads = [1,1,1,1]>(x, w)
            y = ConvTranspose<strides = [2,2], pads = [1,1,1,1]>(c, v)
        }"""
    assert check(text).reasons == []


def test_strides_with_too_many_phases_have_no_kernel() -> None:
    text = """
        g (float[1,4,3,3] x) => (float[1,4,24,24] y) <float[4,4,8,8] w>
        { y = ConvTranspose<strides = [8,8]>(x, w) }"""
    assert check(text).reasons == ["strides of (8, 8) need code for every phase"]
