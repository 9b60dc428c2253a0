"""Transposed convolutions, against adding every input times the kernel to the output."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gcompile.backends.tvm.kernels import transposed_convolution
from gcompile.backends.tvm.kernels.spec import Accumulator, Image, Output
from gcompile.backends.tvm.kernels.transposed_convolution import (
    TransposedKernel,
    needed_halo,
    pack_transposed,
)
from gcompile.backends.tvm.kernels.units import unit_named
from gcompile.errors import CompileError
from gcompile.ir.tile import Tile
from tests.backends.tvm.kernels.compiling import Array, inside, run, with_halo
from tests.backends.tvm.kernels.emulation import emulate, load_emulation
from tests.backends.tvm.kernels.machine import machine_for, skip_unless_runnable

UNITS = (
    "generic", "avx2", "avx512", "avx2-bf16", "avx512-bf16", "avx2-fp16-widened", "amx-bf16",
    "avx2-int8", "avx-vnni", "avx512-vnni", "amx-int8",
)  # fmt: skip


def _kernel(
    unit: str,
    x: tuple[int, int, int, int],
    out_c: int,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    groups: int = 1,
    tile: tuple[int, int] = (3, 2),
    threads: int = 1,
) -> TransposedKernel:
    """Pads are top, left, bottom and right; a negative one adds rows, as output padding does."""
    sizes = [
        (x[1 + axis] - 1) * stride[axis]
        + (kernel_size[axis] - 1) * dilation[axis]
        + 1
        - pads[axis]
        - pads[axis + 2]
        for axis in (0, 1)
    ]
    carrier = unit_named(unit)
    image = Image(x[0], sizes[0], sizes[1], out_c, carrier.accumulator_dtype, (1, 0, 0, 1), 5.0)
    kernel = TransposedKernel(
        output=Output(image),
        expression=Accumulator(),
        x=Image(*x, carrier.x_dtype),
        kernel_size=kernel_size,
        stride=stride,
        dilation=dilation,
        pads=(pads[0], pads[1]),
        groups=groups,
        tile=Tile(unit, *tile, threads=threads),
    )
    return replace(kernel, x=replace(kernel.x, halo=needed_halo(kernel)))


def _check(kernel: TransposedKernel) -> None:
    rng = np.random.default_rng(1)
    image, unit = kernel.x, unit_named(kernel.tile.unit)
    x = rng.integers(0, 30, (image.batch, image.height, image.width, image.channels))
    out_c = kernel.output.image.channels // kernel.groups
    weights = rng.integers(-30, 30, (image.channels, out_c, *kernel.kernel_size))
    stored_weights = weights.astype("int8" if unit.x_dtype == "uint8" else "float32")
    if unit.x_dtype == "bfloat16":
        stored_weights = (stored_weights.view(np.uint32) >> 16).astype(np.uint16)
    elif unit.x_dtype == "float16":
        stored_weights = stored_weights.astype(np.float16)
    inputs = [with_halo(image, x), *pack_transposed(kernel, stored_weights)]
    if unit.is_tiled:
        faults = load_emulation()
        before = faults()
        function = transposed_convolution.emit(kernel, "transposed", emulate)
        stored = run(function, inputs, kernel.output)
        assert faults() == before
    else:
        skip_unless_runnable(unit.name)
        function = transposed_convolution.emit(kernel, "transposed")
        stored = run(function, inputs, kernel.output, *machine_for(unit.name))
    expected = _scattered(kernel, x, weights)
    np.testing.assert_array_equal(inside(kernel.output.image, stored), expected)
    np.testing.assert_array_equal(stored, with_halo(kernel.output.image, expected))


def _scattered(kernel: TransposedKernel, x: Array, weights: Array) -> Array:
    image = kernel.output.image
    total = np.zeros((image.batch, image.height, image.width, image.channels))
    per_group = image.channels // kernel.groups
    for channel in range(x.shape[3]):
        group = channel * kernel.groups // x.shape[3]
        outputs = slice(group * per_group, (group + 1) * per_group)
        for place in np.ndindex(x.shape[1], x.shape[2], *kernel.kernel_size):
            row = place[0] * kernel.stride[0] + place[2] * kernel.dilation[0] - kernel.pads[0]
            column = place[1] * kernel.stride[1] + place[3] * kernel.dilation[1] - kernel.pads[1]
            if 0 <= row < image.height and 0 <= column < image.width:
                products = np.outer(
                    x[:, place[0], place[1], channel], weights[channel, :, place[2], place[3]]
                )
                total[:, row, column, outputs] += products
    return total


@pytest.mark.parametrize("unit", UNITS)
@settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(data=st.data())
def test_any_transposed_convolution_is_exact(unit: str, data: st.DataObject) -> None:
    draw = data.draw
    groups = draw(st.sampled_from([1, 1, 2]))
    in_c = groups * unit_named(unit).group * draw(st.integers(1, 2))
    small = st.integers(-1, 2)
    kernel = _kernel(
        unit,
        (draw(st.integers(1, 2)), draw(st.integers(3, 6)), draw(st.integers(3, 6)), in_c),
        groups * draw(st.sampled_from([1, 9, 20])),
        draw(st.tuples(st.integers(1, 4), st.integers(1, 4))),
        draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
        (draw(st.integers(0, 2)), draw(st.integers(0, 2)), draw(small), draw(small)),
        groups,
        draw(st.sampled_from([(2, 2), (3, 1), (1, 1)])),
        draw(st.integers(1, 2)),
    )
    _check(kernel)


def test_the_usual_upsampling_reads_no_more_than_one_pixel_beyond() -> None:
    kernel = _kernel("generic", (1, 4, 4, 3), 5, (4, 4), (2, 2), pads=(1, 1, 1, 1))
    assert kernel.x.halo == (1, 1, 1, 1)
    assert kernel.output.image.height == 8
    _check(kernel)


def test_a_kernel_smaller_than_its_stride_leaves_zeros() -> None:
    _check(_kernel("generic", (1, 4, 5, 3), 5, (1, 2), (3, 3)))


def test_a_huge_stride_is_refused() -> None:
    kernel = _kernel("generic", (1, 4, 5, 3), 5, (8, 8), (8, 8))
    with pytest.raises(CompileError, match="64 phases"):
        transposed_convolution.code(kernel)
