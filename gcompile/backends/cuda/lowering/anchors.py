"""Regions whose product runs on tensor cores: read from the graph, cut into tiles, given kernels.

Convolutions read and write images with the channels last (NHWC), matrix products plain tensors.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.backends.cuda.kernels.choose_tile import priced_tile
from gcompile.backends.cuda.kernels.product import Product
from gcompile.backends.cuda.kernels.sequence import pack_weights
from gcompile.backends.cuda.kernels.tile_cost import Work
from gcompile.backends.cuda.lowering.anchor import (
    Anchor,
    epilogue_of,
    itemsize,
    storage_of,
)
from gcompile.backends.cuda.lowering.grouped import groups_of, joined_groups, one_group
from gcompile.backends.cuda.lowering.numbers import with_numbers
from gcompile.backends.cuda.lowering.numeric_form import sequence_of
from gcompile.backends.cuda.lowering.reading import (
    Reading,
    left_operand,
    read_convolution,
    read_matrix,
    real_product,
    within_border,
)
from gcompile.backends.cuda.lowering.sparse_weights import sparse_product
from gcompile.backends.cuda.program.instruction import Instruction, instruction_for
from gcompile.backends.tvm.kernels.spec import (
    Image,
)
from gcompile.backends.tvm.lowering.expressions import read_region
from gcompile.backends.tvm.lowering.operands import substitute
from gcompile.backends.tvm.lowering.placement import Layout
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError, RegionExpression
from gcompile.backends.tvm.lowering.scaling import prune, scale_by
from gcompile.errors import TargetError
from gcompile.targets import Target

_INSTRUCTIONS = {
    ir.DataType.BFLOAT16: "bf16",
    ir.DataType.FLOAT16: "f16",
    ir.DataType.INT8: "s8s8",
    ir.DataType.UINT8: "u8s8",
}
_WEIGHTS: dict[str, Any] = {
    "bf16": ml_dtypes.bfloat16,
    "f16": np.float16,
    "s8": np.int8,
}
_UNIT_BYTES = 16
"""What a thread copies at once: channels are filled up to it, so that no copy is shorter."""

_FEWEST_COLUMNS = 8


def anchor_of(region: ir.Region, target: Target, arch: int) -> Anchor:
    """Give a region kernels on tensor cores.

    Raises:
        CannotEmitError: It is no such product, or the architecture has no unit for it.
    """
    node = region.anchor
    if node is None or region.weight_decoder is not None:
        raise CannotEmitError("it has no product with constant weights")
    reading = (
        read_convolution(region, node) if node.op_type == "Conv" else read_matrix(region, node)
    )
    instruction = _instruction(reading, arch)
    body = read_region(region, reading.layout, reading.product)
    body.expression = substitute(body.expression, real_product(body, reading))
    if body.out_scale != 1.0:
        scale_by(body, 1.0 / body.out_scale)
    prune(body)
    return _anchor(reading, instruction, body, target, arch)


def _instruction(reading: Reading, arch: int) -> Instruction:
    """The instruction for the stored types.

    Raises:
        CannotEmitError: There is none, or the product is too small for it.
    """
    dtype = reading.stored.dtype or ir.DataType.FLOAT
    name = _INSTRUCTIONS.get(dtype)
    if name is None:
        raise CannotEmitError(f"tensor cores do not multiply {dtype.name.lower()} exactly")
    instruction = instruction_for(name, arch)
    if instruction.architecture > arch:
        raise CannotEmitError(f"sm_{arch} has no {instruction.name}")
    if instruction.sums == "int32" and reading.weights.dtype != np.int8:
        raise CannotEmitError("the input is quantized and the weight is not")
    if reading.contraction.out_c < _FEWEST_COLUMNS:
        raise CannotEmitError("it is too small for tensor cores")
    return instruction


def _anchor(
    reading: Reading,
    instruction: Instruction,
    body: RegionExpression,
    target: Target,
    arch: int,
) -> Anchor:
    x = left_operand(reading, _UNIT_BYTES // instruction.element_bytes)
    shape = reading.contraction
    image = Image(shape.batch, shape.out_h, shape.out_w, shape.out_c, storage_of(body.output))
    if reading.layout is Layout.ROWS:
        image = Image(1, 1, shape.m, shape.out_c, storage_of(body.output))
    groups = groups_of(shape)
    shape = within_border(one_group(shape, groups, x.channels), x.border)
    weights = _packed(reading, instruction, shape, groups)
    plain, operands = epilogue_of(body, image, reading.layout)
    found = with_numbers(plain)
    epilogue = found.epilogue
    out_bytes = itemsize(image.dtype) + sum(
        itemsize(source.image.dtype)
        for source in epilogue.sources
        if source.image.size == image.size
    )
    work = Work(shape, groups, instruction, out_bytes)
    try:
        cost, tile = priced_tile(work, target, arch)
        product = Product(
            "product",
            instruction,
            shape,
            tile,
            epilogue,
            x.channels,
            weights.shape[-1],
            groups,
            groups > 1,
        )
        sparse = sparse_product(product, weights, work, cost, target, arch)
        product, stored = sparse or (product, {"weights": weights})
        sequence = sequence_of(_named(product))
    except (TargetError, ValueError) as error:
        raise CannotEmitError(str(error)) from error
    return Anchor(
        x,
        (*map(_as_module_holds, stored.values()), *body.vectors, *found.constants),
        operands,
        body.output,
        reading.layout,
        sequence,
        tuple(stored),
        has_numbers=bool(found.constants),
    )


def _as_module_holds(constant: NDArray[Any]) -> NDArray[Any]:
    """Only the bytes count, and constants of a module have no bfloat16."""
    return constant.view(np.uint16) if constant.dtype == ml_dtypes.bfloat16 else constant


def _packed(
    reading: Reading, instruction: Instruction, shape: ir.Contraction, groups: int
) -> NDArray[np.generic]:
    """Weights as kernels read them, with zeros in the channels that only pad.

    Args:
        reading: The product.
        instruction: Gives the type.
        shape: One of the `groups` that the kernel knows.
        groups: How many those are.
    """
    weights = reading.weights
    if instruction.sums == "float32":
        scales = reading.scales.astype(np.float32).reshape(-1, 1, 1, 1)
        weights = weights.astype(np.float32) * scales
    if groups > 1 or reading.contraction.groups > 1:
        weights = joined_groups(weights, reading.contraction.groups, groups)
    return pack_weights(weights.astype(_WEIGHTS[instruction.right]), shape)


def _named(product: Product) -> Product:
    """Equal products get equal names, whatever they are called."""
    digest = hashlib.sha256(repr(replace(product, name="")).encode()).hexdigest()[:16]
    kind = "gemm" if product.contraction.kernel_h * product.contraction.kernel_w == 1 else "conv"
    kind += "_sparse" if product.tile.sparse else ""
    return replace(product, name=f"{kind}_{product.instruction.left}_{digest}")
