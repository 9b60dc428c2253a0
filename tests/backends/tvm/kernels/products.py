"""Random products, and what they should compute."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from gcompile.backends.tvm.kernels.packing import pack_weights
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    DepthwiseKernel,
    Expression,
    Image,
    Load,
    Output,
    PerChannel,
    ProductKernel,
    Source,
    Unary,
)
from gcompile.backends.tvm.kernels.units import unit_named
from gcompile.ir.contraction import Contraction
from gcompile.ir.tile import Tile
from tests.backends.tvm.kernels.compiling import Array, with_halo

REAL = np.float64


@dataclass(frozen=True)
class Operands:
    """The numbers of one product: as they are stored, and as they are meant."""

    x: Array
    stored_x: Array
    weights: Array
    packed_weights: Array


def convolution(
    image: tuple[int, int, int, int],
    out_c: int,
    kernel: tuple[int, int] = (1, 1),
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    groups: int = 1,
) -> Contraction:
    """A contraction whose output size follows from the rest; pads are top, left, bottom, right."""
    _, height, width, _ = image
    top, left, bottom, right = pads
    out_h = (height + top + bottom - (kernel[0] - 1) * dilation[0] - 1) // stride[0] + 1
    out_w = (width + left + right - (kernel[1] - 1) * dilation[1] - 1) // stride[1] + 1
    return Contraction(
        *(*image, out_h, out_w, out_c, *kernel, *stride, *dilation),
        *(top, left, bottom, right, groups),
    )


@st.composite
def product_kernels(draw: st.DrawFn, unit: str, tiles: st.SearchStrategy[Tile]) -> ProductKernel:
    """Small products of every shape, whose expression is the bare sum."""
    small = st.integers(0, 2)
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    window = [(size - 1) * spread + 1 for size, spread in zip(kernel, dilation, strict=True)]
    groups = draw(st.sampled_from([1, 1, 1, 3]))
    in_c = draw(st.integers(1, 9)) if groups == 1 else groups * unit_named(unit).group
    batch = draw(st.integers(1, 2))
    size = [draw(st.integers(extent, extent + 6)) for extent in window]
    contraction = convolution(
        (batch, size[0], size[1], in_c),
        groups * draw(st.sampled_from([1, 10, 16, 17, 40])),
        kernel,
        draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
        dilation,
        draw(st.tuples(small, small, small, small)),
        groups,
    )
    may_be_flat = batch == contraction.stride_h == contraction.stride_w == 1
    tile = draw(tiles.filter(lambda tile: may_be_flat or not tile.flat))
    halo = tuple(pad + draw(st.integers(0, 1)) for pad in contraction.pads)
    return bare_product(contraction, tile, halo, draw(st.tuples(small, small, small, small)))


def bare_product(
    contraction: Contraction,
    tile: Tile,
    halo: tuple[int, ...] | None = None,
    halo_out: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> ProductKernel:
    """A product that writes its sums as they are: int32 or float32."""
    unit = unit_named(tile.unit)
    channels = -(-contraction.in_c // unit.group) * unit.group
    size = (contraction.batch, contraction.in_h, contraction.in_w, channels)
    top, left, bottom, right = halo or contraction.pads
    fill = 3.0 if unit.x_dtype == "uint8" else 0.0
    return ProductKernel(
        output=Output(output_image(contraction, unit.accumulator_dtype, halo_out)),
        expression=Accumulator(),
        contraction=contraction,
        x=Image(*size, unit.x_dtype, (top, left, bottom, right), fill),
        tile=tile,
    )


def output_image(
    contraction: Contraction, dtype: str, halo: tuple[int, int, int, int] = (0, 0, 0, 0)
) -> Image:
    """The image that a contraction writes."""
    size = (contraction.batch, contraction.out_h, contraction.out_w, contraction.out_c)
    return Image(*size, dtype, halo, 5.0)


def random_operands(kernel: ProductKernel, seed: int = 0) -> Operands:
    """Activations (halo and padded channels included) and weights of the unit's types."""
    rng = np.random.default_rng(seed)
    contraction, image = kernel.contraction, kernel.x
    x = np.zeros((image.batch, image.height, image.width, image.channels), REAL)
    kept = (*x.shape[:3], contraction.in_c)
    in_c = contraction.in_c // contraction.groups
    shape = (contraction.out_c, in_c, contraction.kernel_h, contraction.kernel_w)
    weights: Array
    if image.dtype == "uint8":
        x[..., : contraction.in_c] = rng.integers(0, 256, kept)
        weights = stored = rng.integers(-128, 128, shape, dtype=np.int8)
    else:
        x[..., : contraction.in_c] = rng.standard_normal(kept)
        x = x.astype(_numpy_dtype(image.dtype)).astype(REAL)
        rounded = rng.standard_normal(shape).astype(_numpy_dtype(image.dtype))
        weights, stored = rounded.astype(REAL), rounded.view(image.storage_dtype)
    return Operands(x, with_halo(image, x), weights, pack_weights(kernel, stored))


def _numpy_dtype(dtype: str) -> np.dtype[np.generic]:
    return np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def sums(kernel: ProductKernel | DepthwiseKernel, x: Array, weights: Array) -> Array:
    """The convolution in float64, which is exact for integers."""
    contraction = kernel.contraction
    pads = ((0, 0), contraction.pads[0::2], contraction.pads[1::2], (0, 0))
    padded = np.pad(x.astype(REAL), pads, constant_values=kernel.x.fill)
    padded = padded[..., : contraction.in_c]
    groups = contraction.groups
    slices = np.split(padded, groups, axis=-1)
    parts = zip(slices, np.split(weights.astype(REAL), groups), strict=True)
    return np.concatenate([_window_sums(contraction, *part) for part in parts], axis=-1)


def _window_sums(contraction: Contraction, padded: Array, weights: Array) -> Array:
    sizes = (contraction.batch, contraction.out_h, contraction.out_w, weights.shape[0])
    total = np.zeros(sizes)
    for row in range(contraction.kernel_h):
        for column in range(contraction.kernel_w):
            rows = _seen(row * contraction.dilation_h, contraction.out_h, contraction.stride_h)
            columns = _seen(
                column * contraction.dilation_w, contraction.out_w, contraction.stride_w
            )
            total += padded[:, rows, columns] @ weights[:, :, row, column].T
    return total


def _seen(start: int, count: int, stride: int) -> slice:
    return slice(start, start + (count - 1) * stride + 1, stride)


def rounding_bound(kernel: ProductKernel, operands: Operands) -> Array:
    """How far a float32 sum may be off: one rounding of the sum of magnitudes for each product."""
    magnitude = sums(kernel, np.abs(operands.x), np.abs(operands.weights))
    return magnitude * (kernel.contraction.k + 1) * 2.0**-24


RELU_OF_AFFINE_PLUS_SOURCE: Expression = Unary(
    "relu",
    Binary(
        "add",
        Binary("add", Binary("mul", Accumulator(), PerChannel(0)), PerChannel(1)),
        Load(0),
    ),
)


def residual(contraction: Contraction, dtype: str) -> Source:
    """A source as large as the output, with a halo of its own and exact scales."""
    size = (contraction.batch, contraction.out_h, contraction.out_w, contraction.out_c)
    return Source(Image(*size, dtype, (0, 1, 1, 0)), scale=0.25, zero_point=7)
