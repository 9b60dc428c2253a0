"""What the programs of a product compute, in whole arrays: a CPU form for large products.

The interpreter of tile programs follows every thread and takes seconds for a convolution that this
takes milliseconds for. It checks the programs themselves, in tests and for small products; this
checks everything around them: how operands are laid out and packed, in which order they are given,
and what the epilogue does with them, by the very expressions that the programs print.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from gcompile.backends.cuda.kernel import Buffer, CpuForm
from gcompile.backends.cuda.kernels.epilogue import Epilogue, Place
from gcompile.backends.cuda.kernels.product import Product
from gcompile.backends.cuda.program.evaluate import evaluate
from gcompile.backends.cuda.program.program import For, Let, Set
from gcompile.backends.cuda.program.scalar import constant, register
from gcompile.backends.tvm.kernels.spec import Image
from gcompile.ir import Contraction

Array = NDArray[Any]

INTERPRETED_OPERATIONS = 1_000_000
"""Operations of a launch whose CPU form is the interpreter, which does about 10^7 in a second."""


def numeric_forms(product: Product) -> tuple[CpuForm, ...]:
    """The CPU form of each of a product's programs; it has one product in its batch.

    Sums of a split depth are all given to the first share, and the others are zeros.
    """
    if product.batch > 1:
        raise ValueError("Batches of products have no numeric form.")
    c = product.contraction

    def whole(buffers: Sequence[Buffer]) -> None:
        x, weights, *rest, y = buffers
        finish(product.epilogue, _sums(product, x, weights), rest, y)

    def share(buffers: Sequence[Buffer]) -> None:
        x, weights, shares = buffers
        parts = shares.reshape(product.tile.split, c.m, c.n)
        parts[:] = 0
        parts[0] = _sums(product, x, weights)

    def add(buffers: Sequence[Buffer]) -> None:
        shares, *rest, y = buffers
        finish(product.epilogue, shares.reshape(product.tile.split, c.m, c.n).sum(0), rest, y)

    return (whole,) if product.tile.split == 1 else (share, add)


def _sums(product: Product, x: Buffer, weights: Buffer) -> Array:
    """Sums in float32, or exactly for integers."""
    c = product.contraction
    wide = np.float64 if product.instruction.sums == "int32" else np.float32
    rows = windows(x.astype(wide).reshape(c.batch, c.in_h, c.in_w, product.x_pitch), c)
    columns = weights.astype(wide).reshape(c.n, product.weights_pitch)[:, : c.k]
    found: Array = rows @ columns.T
    return found.astype(np.int32) if product.instruction.sums == "int32" else found


def windows(image: Array, c: Contraction) -> Array:
    """The rows of the implicit product, the depth in the order (y, x, channel)."""
    pads = [(0, 0), (c.pad_top, c.pad_bottom), (c.pad_left, c.pad_right), (0, 0)]
    padded = np.pad(image[..., : c.in_c], pads)
    views = [
        padded[
            :,
            (top := y * c.dilation_h) : top + (c.out_h - 1) * c.stride_h + 1 : c.stride_h,
            (left := x * c.dilation_w) : left + (c.out_w - 1) * c.stride_w + 1 : c.stride_w,
        ]
        for y in range(c.kernel_h)
        for x in range(c.kernel_w)
    ]
    return np.concatenate(views, -1).reshape(c.m, c.k)


def finish(epilogue: Epilogue, sums: Array, read: Sequence[Buffer], y: Buffer) -> None:
    """Evaluate the epilogue's own expressions for all elements at once, and store them."""
    vectors = read[: epilogue.channel_vectors]
    known = {f"v{i}": vector[None, :] for i, vector in enumerate(vectors)}
    for i, (source, buffer) in enumerate(
        zip(epilogue.sources, read[epilogue.channel_vectors :], strict=True)
    ):
        known[f"s{i}"] = _broadcast(buffer, source.image, epilogue.output.image)
    known["sum"] = sums
    y[:] = _evaluate(epilogue, known).reshape(-1).astype(y.dtype)


def _broadcast(buffer: Buffer, image: Image, output: Image) -> Array:
    """A source as (pixels, channels) of the output."""
    shape = (output.batch, output.height, output.width, output.channels)
    values = np.broadcast_to(buffer.reshape(image.shape), shape).reshape(-1, output.channels)
    is_real = values.dtype in (np.float16, ml_dtypes.bfloat16)
    return values.astype(np.float32) if is_real else values


def _evaluate(epilogue: Epilogue, known: dict[str, Array]) -> Array:
    variables: dict[str, Array] = {"element": np.asarray(0)}
    result = known["sum"]
    total = register("sum", 0, "int32" if result.dtype.kind == "i" else "float32")
    for statement in epilogue.statements(Place(constant(0), constant(0)), [total]):
        if not isinstance(statement, For):
            continue
        for inner in statement.body:
            if isinstance(inner, Let):
                value = evaluate(inner.value, variables, lambda name, _: known[name])
                variables[inner.name] = value
            elif isinstance(inner, Set):
                result = evaluate(inner.value, variables, lambda name, _: known[name])
    shape = known["sum"].shape
    return np.broadcast_to(result, shape)
