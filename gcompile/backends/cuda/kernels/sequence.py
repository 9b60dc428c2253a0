"""A product as the launches a plan holds, and its weights as the kernels read them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gcompile.backends.cuda.kernel import KernelSequence, Step
from gcompile.backends.cuda.kernels.product import Product
from gcompile.backends.cuda.kernels.tile_cost import Work, traffic_of
from gcompile.backends.cuda.program.instruction import Element
from gcompile.backends.cuda.program.launch import as_kernel
from gcompile.ir import Contraction

_UNITS: dict[Element, str] = {
    "f16": "tensor-core-fp16",
    "bf16": "tensor-core-bf16",
    "tf32": "tensor-core-tf32",
    "s8": "tensor-core-int8",
    "u8": "tensor-core-int8",
    "e4m3": "tensor-core-fp8",
    "e5m2": "tensor-core-fp8",
}

_UNIT_BYTES = 16


def product_sequence(product: Product) -> KernelSequence:
    """One launch, or two where the depth is split.

    The operands are called `x`, `weights`, `vector0` …, `source0` … and `y`.

    Raises:
        ValueError: As `Product.programs`.
    """
    main, *rest = product.programs()
    unit = _UNITS[product.instruction.left]
    blocks = math.prod(main.grid)
    tile = product.tile
    depth = product.copies.stages * product.copies.stage_depth
    # Of sparse weights those that are stored are multiplied.
    stored = depth * tile.weights_bytes // tile.depth_bytes
    operations = 2 * blocks * tile.rows * tile.columns * stored
    sums = 4.0 if rest else product.epilogue.element_bytes
    work = Work(product.contraction, product.batch, product.instruction, sums)
    arch = product.instruction.architecture
    first = as_kernel(main, unit, operations, arch)
    kernels = [
        replace(first, traffic=traffic_of(work, tile), is_sparse=tile.sparse),
        *(as_kernel(program, least_arch=arch) for program in rest),
    ]
    steps = tuple(Step(k, tuple(a.name for a in k.arguments)) for k in kernels)
    shares = product.shares
    scratch = {shares.name: shares.elements * shares.element_bytes} if rest else {}
    return KernelSequence(steps, scratch)


def weights_pitch(depth: int, element_bytes: int) -> int:
    """Elements of a packed column: the depth, filled up to whole units of 16 bytes."""
    unit = _UNIT_BYTES // element_bytes
    return math.ceil(depth / unit) * unit


def pack_weights(weights: NDArray[np.generic], contraction: Contraction) -> NDArray[np.generic]:
    """Bring weights into the order in which kernels read them: (…, out_c, pitch), depth first.

    Args:
        weights: (…, out_c, channels, kernel_h, kernel_w) in the element type of the product; a
            matrix (depth, columns) is `weights.T[:, :, None, None]`.
        contraction: Its input channels may be more than the weights have: those are zeros.

    Returns:
        Columns over (kernel_h, kernel_w, channels), with zeros up to `weights_pitch`.
    """
    *outer, channels, height, width = weights.shape
    padded = np.zeros((*outer, height, width, contraction.in_c), weights.dtype)
    padded[..., :channels] = np.moveaxis(weights, -3, -1)
    flat = padded.reshape(*outer, contraction.k)
    result = np.zeros((*outer, weights_pitch(contraction.k, weights.itemsize)), weights.dtype)
    result[..., : contraction.k] = flat
    return result
