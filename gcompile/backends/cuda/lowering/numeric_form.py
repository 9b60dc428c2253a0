"""What the programs of a product compute, in whole arrays: a CPU form for large products.

The interpreter of tile programs follows every thread and takes seconds for a convolution that this
takes milliseconds for. It checks the programs themselves, in tests and for small products; this
checks everything around them: how operands are laid out and packed, in which order they are given,
and what the epilogue does with them, by the very expressions that the programs print.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from gcompile.backends.cuda.kernel import Buffer, CpuForm, KernelSequence
from gcompile.backends.cuda.kernels.batched_product import BatchedProduct
from gcompile.backends.cuda.kernels.epilogue import Epilogue, Place
from gcompile.backends.cuda.kernels.numbers import number
from gcompile.backends.cuda.kernels.product import Product
from gcompile.backends.cuda.kernels.sequence import product_sequence
from gcompile.backends.cuda.kernels.sparse_product import SparseProduct
from gcompile.backends.cuda.program.evaluate import evaluate
from gcompile.backends.cuda.program.program import For, Let, Set
from gcompile.backends.cuda.program.scalar import constant, register
from gcompile.backends.tvm.kernels.spec import Image
from gcompile.ir import Contraction

Array = NDArray[Any]

INTERPRETED_OPERATIONS = 1_000_000
"""Operations of a launch whose CPU form is the interpreter, which does about 10^7 in a second."""


def numeric_forms(product: Product) -> tuple[CpuForm, ...]:
    """The CPU form of each of a product's programs.

    Sums of a split depth are all given to the first share, and the others are zeros.
    """
    c, count = product.contraction, len(product.operands)
    split = (product.batch, product.tile.split, c.m, c.n)

    def whole(buffers: Sequence[Buffer]) -> None:
        *rest, y = buffers[count:]
        finish(product.epilogue, _arranged(product, _sums(product, *buffers[:count])), rest, y)

    def share(buffers: Sequence[Buffer]) -> None:
        parts = buffers[count].reshape(split)
        parts[:] = 0
        parts[:, 0] = _sums(product, *buffers[:count])

    def add(buffers: Sequence[Buffer]) -> None:
        shares, *rest, y = buffers
        sums = _arranged(product, shares.reshape(split).sum(1, dtype=shares.dtype))
        finish(product.epilogue, sums, rest, y)

    return (whole,) if product.tile.split == 1 else (share, add)


def sequence_of(product: Product) -> KernelSequence:
    """The launches; large ones have a CPU form that is faster than the interpreter.

    Raises:
        ValueError: As `Product.programs`.
    """
    sequence = product_sequence(product)
    if sequence.steps[0].kernel.operations <= INTERPRETED_OPERATIONS:
        return sequence
    steps = tuple(
        replace(step, kernel=replace(step.kernel, cpu=form))
        for step, form in zip(sequence.steps, numeric_forms(product), strict=True)
    )
    return replace(sequence, steps=steps)


def _sums(product: Product, x: Buffer, weights: Buffer, *metadata: Buffer) -> Array:
    """Sums (batch, m, n) in float32, or exactly for integers."""
    c, is_integer = product.contraction, product.instruction.sums == "int32"
    wide = np.float64 if is_integer else np.float32
    if isinstance(product, BatchedProduct):
        left, right = product.matrices(x.astype(wide), weights.astype(wide))
        pairs: Array = (left @ right).reshape(
            product.batch, product.contraction.m, product.contraction.n
        )
        return pairs
    c = product.contraction
    images = x.astype(wide).reshape(c.batch, c.in_h, c.in_w, product.x_pitch)
    columns = weights.reshape(-1, c.n, product.weights_pitch)
    if isinstance(product, SparseProduct):
        columns = product.dense(columns[0], metadata[0])[None]
    columns = columns[..., : c.k].astype(wide)
    rows = [windows(images[..., g * c.in_c :], c) for g in range(product.batch)]
    found: Array = np.stack(rows) @ columns.swapaxes(1, 2)
    return found.astype(np.int32) if is_integer else found


def _arranged(product: Product, sums: Array) -> Array:
    """Sums (batch, m, n) as (pixels, channels) of the output."""
    c = product.contraction
    if product.groups:
        return sums.swapaxes(0, 1).reshape(c.m, -1)
    if isinstance(product, BatchedProduct) and product.are_side_by_side:
        heads = sums.reshape(-1, product.heads, c.m, c.n)
        return heads.swapaxes(1, 2).reshape(-1, product.heads * c.n)
    return sums.reshape(-1, c.n)


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
    if epilogue.numbers:
        known[str(number(0).value)] = read[epilogue.channel_vectors]
    images = read[len(read) - len(epilogue.sources) :]
    for i, (source, buffer) in enumerate(zip(epilogue.sources, images, strict=True)):
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
    result, numbers = known["sum"], str(number(0).value)

    def read(name: str, index: int) -> Array:
        return np.asarray(known[name][index]) if name == numbers else known[name]

    total = register("sum", 0, "int32" if result.dtype.kind == "i" else "float32")
    for statement in epilogue.statements(Place(constant(0), constant(0)), [total]):
        if not isinstance(statement, For):
            continue
        for inner in statement.body:
            if isinstance(inner, Let):
                value = evaluate(inner.value, variables, read)
                variables[inner.name] = value
            elif isinstance(inner, Set):
                result = evaluate(inner.value, variables, read)
    shape = known["sum"].shape
    return np.broadcast_to(result, shape)
