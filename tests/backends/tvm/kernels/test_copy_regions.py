"""Concatenation, slices and padding of images, against numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.backends.tvm.kernels import copy_regions
from gcompile.backends.tvm.kernels.copy_regions import Box, CopyKernel, Region, concatenation
from gcompile.backends.tvm.kernels.spec import Accumulator, Image, Output, Source, Unary
from gcompile.errors import CompileError
from tests.backends.tvm.kernels.compiling import Array, inside, run, with_halo


def _stored(image: Image, seed: int = 0) -> Array:
    size = (image.batch, image.height, image.width, image.channels)
    return with_halo(image, np.random.default_rng(seed).integers(0, 100, size))


def _run(kernel: CopyKernel, inputs: list[Array]) -> Array:
    stored = run(copy_regions.emit(kernel, "copy"), inputs, kernel.output)
    image = kernel.output.image
    values = inside(image, stored)
    np.testing.assert_array_equal(stored, with_halo(image, values))
    return values


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    axis=st.integers(0, 3),
    extents=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    dtype=st.sampled_from(["float32", "uint8", "bfloat16", "float16", "int32"]),
    threads=st.integers(1, 3),
)
def test_images_are_put_side_by_side_along_any_axis(
    axis: int, extents: list[int], dtype: str, threads: int
) -> None:
    images = []
    for index, extent in enumerate(extents):
        size = [2, 3, 4, 5]
        size[axis] = extent
        halo = (index, 0, 1, 0)
        images.append(Image(size[0], size[1], size[2], size[3], dtype, halo, 9.0))
    size = [2, 3, 4, 5]
    size[axis] = sum(extents)
    output = Image(size[0], size[1], size[2], size[3], dtype, (1, 1, 0, 2), 3.0)
    kernel = CopyKernel(
        output=Output(output),
        expression=Accumulator(),
        sources=tuple(Source(image) for image in images),
        threads=threads,
        regions=concatenation(tuple(images), axis),
    )
    inputs = [_stored(image, index) for index, image in enumerate(images)]
    parts = [inside(image, stored) for image, stored in zip(images, inputs, strict=True)]
    np.testing.assert_array_equal(_run(kernel, inputs), np.concatenate(parts, axis=axis))


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    start=st.tuples(*[st.integers(0, 2)] * 4),
    step=st.tuples(*[st.integers(1, 3)] * 4),
    mirrored=st.tuples(*[st.booleans()] * 4),
    threads=st.integers(1, 2),
)
def test_slices_take_every_step_th_element_forwards_or_backwards(
    start: Box, step: Box, mirrored: tuple[bool, ...], threads: int
) -> None:
    source = Image(4, 6, 7, 37)
    x = _stored(source)
    slices = tuple(slice(begin, None, stride) for begin, stride in zip(start, step, strict=True))
    expected = x[slices]
    flip = tuple(slice(None, None, -1 if is_mirrored else 1) for is_mirrored in mirrored)
    last = [s + (n - 1) * d for s, n, d in zip(start, expected.shape, step, strict=True)]
    axes = list(zip(start, last, step, mirrored, strict=True))
    starts = [end if is_mirrored else begin for begin, end, _, is_mirrored in axes]
    steps = [-stride if is_mirrored else stride for _, _, stride, is_mirrored in axes]
    size = expected.shape
    region = Region(
        0,
        (starts[0], starts[1], starts[2], starts[3]),
        (0, 0, 0, 0),
        (size[0], size[1], size[2], size[3]),
        (steps[0], steps[1], steps[2], steps[3]),
    )
    kernel = CopyKernel(
        output=Output(Image(size[0], size[1], size[2], size[3])),
        expression=Accumulator(),
        sources=(Source(source),),
        threads=threads,
        regions=(region,),
    )
    np.testing.assert_array_equal(_run(kernel, [x]), expected[flip])


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_padding_fills_what_no_region_writes(dtype: str) -> None:
    source = Image(2, 3, 4, 5, dtype)
    output = Output(Image(3, 6, 8, 9, dtype, (1, 0, 0, 1)), 0.5, 7 if dtype == "uint8" else 0)
    kernel = CopyKernel(
        output=output,
        expression=Accumulator(),
        sources=(Source(source, output.scale, output.zero_point),),
        threads=2,
        regions=(Region(0, (0, 0, 0, 0), (1, 2, 3, 4), (2, 3, 4, 5)),),
        fill=4.0,
    )
    x = _stored(source)
    borders = ((1, 0), (2, 1), (3, 1), (4, 0))
    fill = 4 / 0.5 + 7 if dtype == "uint8" else 4
    np.testing.assert_array_equal(_run(kernel, [x]), np.pad(x, borders, constant_values=fill))


def test_a_reflected_border_is_a_region_that_steps_backwards() -> None:
    source = Image(1, 1, 5, 3)
    x = _stored(source)
    left = Region(0, (0, 0, 2, 0), (0, 0, 0, 0), (1, 1, 2, 3), (1, 1, -1, 1))
    middle = Region(0, (0, 0, 0, 0), (0, 0, 2, 0), (1, 1, 5, 3))
    right = Region(0, (0, 0, 4, 0), (0, 0, 7, 0), (1, 1, 2, 3), (1, 1, 0, 1))
    kernel = CopyKernel(
        output=Output(Image(1, 1, 9, 3)),
        expression=Accumulator(),
        sources=(Source(source),),
        regions=(left, middle, right),
    )
    mirrored = np.pad(x, ((0, 0), (0, 0), (2, 0), (0, 0)), mode="reflect")
    expected = np.pad(mirrored, ((0, 0), (0, 0), (0, 2), (0, 0)), mode="edge")
    np.testing.assert_array_equal(_run(kernel, [x]), expected)


def test_numbers_are_converted_and_changed_on_the_way() -> None:
    images = (Image(1, 2, 3, 20, "uint8"), Image(1, 2, 3, 9, "float32"))
    kernel = CopyKernel(
        output=Output(Image(1, 2, 3, 29, "uint8"), 0.25, 3),
        expression=Unary("relu", Accumulator()),
        sources=(Source(images[0], 0.5, 50), Source(images[1])),
        regions=concatenation(images, 3),
    )
    inputs = [_stored(image) for image in images]
    reals = np.concatenate([(inputs[0].astype(float) - 50) * 0.5, inputs[1]], axis=3)
    expected = np.clip(np.rint(np.maximum(reals, 0) / 0.25) + 3, 0, 255)
    np.testing.assert_array_equal(_run(kernel, inputs), expected)


@pytest.mark.parametrize(
    ("region", "reason"),
    [
        (Region(0, (0, 0, 1, 0), (0, 0, 0, 0), (1, 2, 3, 4)), "leaves its image"),
        (Region(0, (0, 0, 0, 0), (0, 0, 1, 0), (1, 2, 3, 4)), "leaves its image"),
        (Region(0, (0, 0, 0, 0), (0, 0, 0, 0), (1, 2, 2, 4)), "do not cover"),
    ],
)
def test_regions_that_do_not_fit_are_refused(region: Region, reason: str) -> None:
    image = Image(1, 2, 3, 4)
    kernel = CopyKernel(output=Output(image), expression=Accumulator(), sources=(Source(image),))
    with pytest.raises(CompileError, match=reason):
        copy_regions.code(replace(kernel, regions=(region,)))
