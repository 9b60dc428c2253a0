"""What has no kernel of ours runs through TVM's importer: right, and the report says why."""

from __future__ import annotations

import pytest

import gcompile
from tests.backends.tvm.lowering.compiling import check, parse

REASONS = {
    "convolution over three axes": (
        """g (float[1,2,4,4,4] x) => (float[1,3,4,4,4] y) <float[3,2,3,3,3] w>
        { y = Conv<pads = [1,1,1,1,1,1]>(x, w) }""",
        ["the convolution's geometry is not one kernels know"],
    ),
    "weights that are computed": (
        "g (float[1,3,5,5] x, float[2,3,3,3] w) => (float[1,2,3,3] y) { y = Conv(x, w) }",
        ["the weight is not constant"],
    ),
    "a computed operand of a product that is transposed on the left": (
        "g (float[6,3] x, float[6,4] z) => (float[3,4] y) { y = Gemm<transA = 1>(x, z) }",
        ["the rows of an operand's matrices are not contiguous"],
    ),
    "a bias for every element": (
        """g (float[3,6] x) => (float[3,5] y) <float[6,5] w, float[3,5] b>
        { y = Gemm<beta = 0.5>(x, w, b) }""",
        ["the bias is not a constant per channel"],
    ),
    "a bias for every row": (
        """g (float[3,6] x) => (float[3,5] y) <float[6,5] w, float[3,1] b>
        { y = Gemm(x, w, b) }""",
        ["the bias is not a constant per channel"],
    ),
    "a left operand to transpose": (
        """g (float[6,3] x) => (float[3,5] y) <float[5,6] w, float[5] b>
        { y = Gemm<transA = 1, transB = 1, alpha = 0.5>(x, w, b) }""",
        ["the left operand is transposed or batched"],
    ),
    "integers and doubles": (
        """g (int64[2,3] x, double[2,3] z) => (int64[2,3] y, double[2,3] t)
        { y = Add(x, x) t = Relu(z) }""",
        ["an input has type INT64", "an input has type DOUBLE"],
    ),
    "several outputs": (
        """g (float[2,8] x) => (float[2,3] y, int64[2,3] i) <int64[1] k = {3}>
        { y, i = TopK<axis = 1>(x, k) }""",
        ["the region has more than one output"],
    ),
}


@pytest.mark.parametrize("name", REASONS)
def test_the_report_says_why_there_is_no_kernel(name: str) -> None:
    text, reasons = REASONS[name]
    assert check(text).reasons == reasons


@pytest.mark.parametrize("precision", ["int8", "bf16"])
def test_a_narrow_model_with_fallbacks_is_right_too(precision: str) -> None:
    text = """
        g (float[1,4,6,6] x) => (float[1,6,12,12] y)
        <float[8,4,3,3] w, float[8,6,2,2] t> {
            c = Conv<pads = [1,1,1,1]>(x, w)
            d = LRN<size = 3>(c)
            y = ConvTranspose<strides = [2,2]>(d, t)
        }"""
    assert check(text, precision).reasons == ["LRN is not an elementwise operator kernels know"]


def test_a_mean_that_drops_axes_of_a_padded_image() -> None:
    text = """
        g (float[2,6,4,5] x) => (float[2,6] y) <int64[2] axes = {2, 3}>
        { m = ReduceMean<keepdims = 0>(x, axes) y = Relu(m) }"""
    assert check(text).reasons == ["input and output store different numbers of channels"]


def test_products_of_vectors_and_from_the_left() -> None:
    text = """
        g (float[4,6] x, float[6,4] z) => (float[4] y, float[3,4] t)
        <float[6] w, float[3,6] left> { y = MatMul(x, w) t = MatMul(left, z) }"""
    assert check(text).reasons == []


def test_an_image_between_a_fallback_and_a_kernel_changes_layout_as_it_must() -> None:
    text = """
        g (float[1,3,6,6] x) => (float[1,4,6,6] y)
        <float[6,3,3,3] w, int64 axis = {3}, float[4,6,3,3] v> {
            c = Conv<pads = [1,1,1,1]>(x, w)
            u = CumSum(c, axis)
            y = Conv<pads = [1,1,1,1]>(u, v)
        }"""
    assert len(check(text, "int8").reasons) == 1


def test_a_constant_that_nobody_folded_is_read_like_any_value() -> None:
    text = """
        g (float[1,4,6,6] x) => (float[1,4,6,6] y, float[1,4,6,6] z)
        <float[1,3,6,6] k, float[4,3,1,1] w> {
            c = Conv(k, w)
            y = Add(c, x)
            t = Tanh(y)
            z = Mul(t, c)
        }"""
    report = gcompile.compile(parse(text), passes="remove-dead-nodes").report
    assert report.verify.cosine is not None
    assert report.verify.cosine > 0.9999
    assert report.fallbacks == {}
