"""Resizing of images, against ONNX Runtime."""

from __future__ import annotations

import pytest

from tests.backends.tvm.lowering.compiling import check


@pytest.mark.parametrize(
    ("attributes", "scales", "size"),
    [
        ('mode = "nearest"', "1.0, 1.0, 2.0, 3.0", "10,18"),
        ('mode = "linear"', "1.0, 1.0, 2.0, 1.5", "10,9"),
        ('mode = "linear", coordinate_transformation_mode = "align_corners"',
         "1.0, 1.0, 0.6, 2.0", "3,12"),
        ('mode = "nearest", nearest_mode = "floor", coordinate_transformation_mode = "asymmetric"',
         "1.0, 1.0, 1.5, 2.0", "7,12"),
        ('mode = "linear", coordinate_transformation_mode = "half_pixel_symmetric"',
         "1.0, 1.0, 1.5, 1.7", "7,10"),
    ],
)  # fmt: skip
def test_images_are_resized_by_scales(attributes: str, scales: str, size: str) -> None:
    text = f"""
        g (float[2,6,5,6] x) => (float[2,6,{size}] y) <float[4] scales = {{{scales}}}>
        {{ y = Resize<{attributes}>(x, , scales) }}"""
    assert check(text, threads=2).reasons == []


def test_sizes_and_axes_are_read() -> None:
    text = """
        g (float[1,3,5,6] x) => (float[1,3,9,4] y, float[1,3,5,9] z)
        <int64[4] sizes = {1, 3, 9, 4}, float[1] scale = {1.5}> {
            y = Resize<mode = "linear">(x, , , sizes)
            z = Resize<mode = "linear", axes = [3]>(x, , scale)
        }"""
    assert check(text).reasons == []


def test_images_of_one_channel_are_resized_where_they_lie() -> None:
    text = """
        g (float[2,1,4,5] x) => (float[2,1,8,7] y) <int64[4] sizes = {2, 1, 8, 7}>
        { y = Resize<mode = "nearest">(x, , , sizes) }"""
    assert check(text).reasons == []


@pytest.mark.parametrize("precision", [None, "int8", "bf16"])
def test_images_between_convolutions_and_lines_stay_channels_last(precision: str | None) -> None:
    text = """
        g (float[1,3,6,6] x, float[1,5,8] s) => (float[1,4,12,12] y, float[1,5,16] t)
        <float[6,3,3,3] w, float[4,6,3,3] v, float[4] two = {1.0, 1.0, 2.0, 2.0},
         float[3] line = {1.0, 1.0, 2.0}> {
            c = Conv<pads = [1,1,1,1]>(x, w)
            u = Resize<mode = "nearest">(c, , two)
            y = Conv<pads = [1,1,1,1]>(u, v)
            t = Resize<mode = "linear">(s, , line)
        }"""
    assert check(text, precision).reasons == []


def test_what_has_no_kernel_becomes_products_and_lookups() -> None:
    text = """
        g (float[1,4,3,4] x) => (float[1,4,6,8] y, float[1,8,3,4] z)
        <float[4] scales = {1.0, 1.0, 2.0, 2.0}, float[4] deep = {1.0, 2.0, 1.0, 1.0}> {
            y = Resize<mode = "cubic">(x, , scales)
            z = Resize(x, , deep)
        }"""
    assert check(text).reasons == []
