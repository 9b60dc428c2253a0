"""Random products and convolutions, what they should give, and how they are interpreted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from gcompile.backends.cuda.kernels.block_tile import BlockTile
from gcompile.backends.cuda.kernels.epilogue import Epilogue
from gcompile.backends.cuda.kernels.product import Product
from gcompile.backends.cuda.program.instruction import INSTRUCTIONS, Element, instruction_for
from gcompile.backends.cuda.program.interpret import Run, interpret
from gcompile.backends.tvm.kernels.spec import Accumulator, Expression, Image, Output
from gcompile.ir import Contraction

Array = NDArray[Any]

NUMPY: dict[Element, np.dtype[np.generic]] = {
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "tf32": np.dtype(np.float32),
    "s8": np.dtype(np.int8),
    "u8": np.dtype(np.uint8),
    "e4m3": np.dtype(ml_dtypes.float8_e4m3fn),
    "e5m2": np.dtype(ml_dtypes.float8_e5m2),
}

TESTED = INSTRUCTIONS | {f"{n}-75": instruction_for(n, 75) for n in ("f16", "s8s8", "u8s8")}
"""All instructions by name, those that sm_75 has in its own way twice."""

SMALL_TILES = (
    BlockTile(32, 32, 16, 16, stages=3),
    BlockTile(64, 32, 32, 32, stages=2),
    BlockTile(32, 64, 32, 16, depth_bytes=128, stages=3),
    BlockTile(16, 64, 16, 16, stages=4),
    BlockTile(48, 16, 16, 16, stages=3),
    BlockTile(32, 48, 16, 48, stages=2, by_registers=True),
    BlockTile(64, 32, 16, 32, 128, stages=2, by_registers=True),
    BlockTile(64, 32, 16, 32, stages=3, by_groups=True),
    BlockTile(128, 48, 16, 48, depth_bytes=128, by_groups=True),
)


@dataclass(frozen=True)
class Operands:
    """The numbers of one product, before they are laid out: exact in the element type."""

    x: Array
    weights: Array


def random_operands(
    rng: np.random.Generator, name: str, x: tuple[int, ...], weights: tuple[int, ...]
) -> Operands:
    """Numbers that the element types hold exactly, so that references need no rounding."""
    instruction = TESTED[name]
    return Operands(_numbers(rng, instruction.left, x), _numbers(rng, instruction.right, weights))


def _numbers(rng: np.random.Generator, element: Element, shape: tuple[int, ...]) -> Array:
    if element in ("s8", "u8"):
        info = np.iinfo(np.int8 if element == "s8" else np.uint8)
        return rng.integers(info.min, info.max + 1, shape).astype(NUMPY[element])
    values = rng.standard_normal(shape).astype(
        ml_dtypes.bfloat16 if element == "tf32" else NUMPY[element]
    )
    return values.astype(NUMPY[element])


def windows(x: Array, c: Contraction) -> Array:
    """The rows of the implicit product: (m, k), in float64, depth in the order (y, x, channel)."""
    batch = x.shape[0]
    padded = np.zeros(
        (batch, c.in_h + c.pad_top + c.pad_bottom, c.in_w + c.pad_left + c.pad_right, c.in_c)
    )
    padded[:, c.pad_top : c.pad_top + c.in_h, c.pad_left : c.pad_left + c.in_w] = x[..., : c.in_c]
    taps = []
    for ky in range(c.kernel_h):
        for kx in range(c.kernel_w):
            y0, x0 = ky * c.dilation_h, kx * c.dilation_w
            rows = slice(y0, y0 + (c.out_h - 1) * c.stride_h + 1, c.stride_h)
            columns = slice(x0, x0 + (c.out_w - 1) * c.stride_w + 1, c.stride_w)
            taps.append(padded[:, rows, columns])
    return np.concatenate(taps, -1).reshape(c.m, c.k)


def packed(weights: Array, pitch: int) -> Array:
    """Columns (…, n, k) with zeros up to the pitch."""
    result = np.zeros((*weights.shape[:-1], pitch), weights.dtype)
    result[..., : weights.shape[-1]] = weights
    return result


def pitch_of(depth: int, element_bytes: int) -> int:
    """The depth, filled up to whole units of 16 bytes."""
    unit = 16 // element_bytes
    return -(-depth // unit) * unit


def plain_epilogue(
    pixels: int, channels: int, dtype: str = "float32", expression: Expression | None = None
) -> Epilogue:
    """Store the sums as they are."""
    output = Output(Image(1, 1, pixels, channels, dtype))
    return Epilogue(output, expression if expression is not None else Accumulator())


def run(product: Product, *read: Array, output: Array) -> list[Run]:
    """Interpret all programs of a product on its operands and what the epilogue reads."""
    count = len(product.operands)
    operands, rest = read[:count], read[count:]
    programs = product.programs()
    if len(programs) == 1:
        return [interpret(programs[0], [*operands, *rest, output])]
    sums = np.zeros(product.shares.elements, product.shares.storage)
    return [
        interpret(programs[0], [*operands, sums]),
        interpret(programs[1], [sums, *rest, output]),
    ]
