"""Random products, and what they should compute."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from gcompile.backends.tvm.kernels.packing import pack_weights
from gcompile.backends.tvm.kernels.spec import ProductKernel
from gcompile.backends.tvm.kernels.units import unit_named
from gcompile.ir.contraction import Contraction
from tests.backends.tvm.kernels.compiling import Array, with_halo


@dataclass(frozen=True)
class Operands:
    """The numbers of one product: as they are stored, and as they are meant."""

    x: Array
    stored_x: Array
    weights: Array
    packed_weights: Array


def random_operands(kernel: ProductKernel, seed: int = 0) -> Operands:
    """Activations (halo and padded channels included) and weights of the unit's types."""
    rng = np.random.default_rng(seed)
    contraction, image = kernel.contraction, kernel.x
    x = np.zeros((image.batch, image.height, image.width, image.channels))
    kept = (*x.shape[:3], contraction.in_c)
    weight_shape = (
        contraction.out_c,
        contraction.in_c,
        contraction.kernel_h,
        contraction.kernel_w,
    )
    if unit_named(kernel.tile.unit).x_dtype == "uint8":
        x[..., : contraction.in_c] = rng.integers(0, 256, kept)
        weights: Array = rng.integers(-128, 128, weight_shape, dtype=np.int8)
        stored_weights = weights
    else:
        x[..., : contraction.in_c] = rng.standard_normal(kept)
        weights = rng.standard_normal(weight_shape).astype(np.float32)
        stored_weights = weights
        if image.dtype == "bfloat16":
            x = x.astype(ml_dtypes.bfloat16).astype(np.float64)
            rounded = weights.astype(ml_dtypes.bfloat16)
            weights, stored_weights = rounded.astype(np.float32), rounded.view(np.uint16)
    return Operands(x, with_halo(image, x), weights, pack_weights(kernel, stored_weights))


def convolve(contraction: Contraction, x: Array, weights: Array, fill: float) -> Array:
    """The convolution in float64, which is exact for integers."""
    pads = ((0, 0), contraction.pads[0::2], contraction.pads[1::2], (0, 0))
    padded = np.pad(x.astype(np.float64), pads, constant_values=fill)
    padded = padded[..., : contraction.in_c]
    total = np.zeros((x.shape[0], contraction.out_h, contraction.out_w, contraction.out_c))
    for row in range(contraction.kernel_h):
        for column in range(contraction.kernel_w):
            top, left = row * contraction.dilation_h, column * contraction.dilation_w
            seen = padded[
                :,
                top : top
                + (contraction.out_h - 1) * contraction.stride_h
                + 1 : contraction.stride_h,
                left : left
                + (contraction.out_w - 1) * contraction.stride_w
                + 1 : contraction.stride_w,
            ]
            total += seen @ weights[:, :, row, column].astype(np.float64).T
    return total
