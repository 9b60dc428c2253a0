"""Matrix products with weights that stay integers in memory."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.backends.cuda.kernel import Buffer, CpuForm, Kernel, KernelSequence
from gcompile.backends.cuda.kernels.pack_stored import pack_stored, unpack_stored
from gcompile.backends.cuda.kernels.stored_product import StoredProduct
from gcompile.backends.cuda.lowering.anchor import Anchor, Operand, epilogue_of, storage_of
from gcompile.backends.cuda.lowering.numbers import with_numbers
from gcompile.backends.cuda.lowering.numeric_form import INTERPRETED_OPERATIONS, finish
from gcompile.backends.cuda.program.instruction import ASYNC_ARCH, instruction_for
from gcompile.backends.cuda.program.launch import as_kernel
from gcompile.backends.tvm.kernels.few_bits import Matrix
from gcompile.backends.tvm.kernels.spec import Accumulator, Binary, Image
from gcompile.backends.tvm.lowering.expressions import read_region
from gcompile.backends.tvm.lowering.operands import substitute
from gcompile.backends.tvm.lowering.placement import Layout
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError
from gcompile.backends.tvm.lowering.scaling import prune, scale_by
from gcompile.backends.tvm.lowering.weight_only import stored_matrix
from gcompile.backends.tvm.lowering.weights import constant_bias
from gcompile.backends.tvm.lowering.windows import stored_input
from gcompile.targets import Target

_ELEMENTS = {"float16": "f16", "bfloat16": "bf16"}
_UNITS = {"f16": "tensor-core-fp16", "bf16": "tensor-core-bf16"}
_ROUND = 8
"""Elements of x that one lane loads."""


def stored_anchor(region: ir.Region, target: Target, arch: int) -> Anchor:
    """Give a product of floats with stored integers its kernel.

    Raises:
        CannotEmitError: The left operand or the weights are not ones kernels know.
    """
    node, decoder = region.anchor, region.weight_decoder
    assert node is not None
    assert decoder is not None
    shape = ir.contraction_of(node)
    if shape is None or shape.batch != 1 or node.attributes.get_int("transA", False):
        raise CannotEmitError("the left operand is transposed or batched")
    stored, _, _ = stored_input(region, node.inputs[0])
    element = _ELEMENTS.get(storage_of(stored))
    if element is None or instruction_for(element, arch).architecture > arch:
        raise CannotEmitError(
            f"sm_{arch} does not multiply {storage_of(stored)} with stored integers"
        )
    depth = math.ceil(shape.in_c / _ROUND) * _ROUND
    matrix = stored_matrix(node, decoder, depth)
    body = read_region(region, Layout.ROWS, node.outputs[0])
    bias = np.zeros(shape.out_c)
    if node.op_type == "Gemm":
        addend = constant_bias(node.inputs[2] if len(node.inputs) > 2 else None, shape.out_c)
        bias = addend * node.attributes.get_float("beta", 1.0)
    if bias.any():
        added = Binary("add", Accumulator(), body.add_vector(bias.astype(np.float32)))
        body.expression = substitute(body.expression, added)
    if body.out_scale != 1.0:
        scale_by(body, 1.0 / body.out_scale)
    prune(body)
    image = Image(1, 1, shape.m, shape.out_c, storage_of(body.output))
    plain, operands = epilogue_of(body, image, Layout.ROWS)
    found = with_numbers(plain)
    has_points = bool(matrix.zero_points.any())
    try:
        product = StoredProduct(
            "stored",
            element,
            matrix.bits,
            shape.m,
            shape.out_c,
            depth,
            matrix.block,
            found.epilogue,
            depth,
            has_points,
            arch=min(arch, ASYNC_ARCH),
        )
    except ValueError as error:
        raise CannotEmitError(str(error)) from error
    if product.tiles[1] < 2 * target.processors:
        product = replace(product, warps=8)
    return Anchor(
        Operand(stored, Layout.ROWS, depth),
        (*_constants(matrix, has_points), *body.vectors, *found.constants),
        operands,
        body.output,
        Layout.ROWS,
        KernelSequence.of(_kernel(product)),
        ("weights", "scales", *(("points",) if has_points else ())),
        has_numbers=bool(found.constants),
    )


def _constants(matrix: Matrix, has_points: bool) -> list[NDArray[np.generic]]:
    """Packed weights, scales and zero points; numbers with points are stored as not negative."""
    offset = 1 << (matrix.bits - 1) if has_points else 0
    packed = pack_stored(matrix.numbers.astype(np.int64) + offset, matrix.bits, has_points)
    scales = np.ascontiguousarray(matrix.scales.T.astype(np.float32))
    points = np.ascontiguousarray(
        (matrix.zero_points.astype(np.int64).T + offset).astype(np.uint8)
    )
    return [packed, scales, *([points] if has_points else [])]


def _kernel(product: StoredProduct) -> Kernel:
    digest = hashlib.sha256(repr(product).encode()).hexdigest()[:16]
    named = replace(product, name=f"stored{product.bits}_{product.element}_{digest}")
    rows, columns = named.tiles
    chunks = named.program().grid[1]
    operations = 2 * chunks * rows * 8 * columns * 16 * named.units * named.unit
    kernel = as_kernel(
        named.program(), _UNITS[named.element], operations, named.instruction.architecture
    )
    return replace(kernel, cpu=_numeric(named)) if operations > INTERPRETED_OPERATIONS else kernel


def _numeric(product: StoredProduct) -> CpuForm:
    """The same in whole arrays, from the packed bytes."""

    def compute(buffers: Sequence[Buffer]) -> None:
        x, weights, scales, *rest, y = buffers
        blocks = np.arange(product.k) // product.block
        numbers = unpack_stored(weights, product.n, product.k, product.bits)
        if product.has_points:
            points, *rest = rest
            numbers -= points.reshape(-1, product.n)[blocks].T.astype(np.float32)
        else:
            numbers -= np.float32(1 << (product.bits - 1))
        columns = numbers * scales.reshape(-1, product.n)[blocks].T
        rows = x.reshape(product.m, product.x_pitch)[:, : product.k].astype(np.float32)
        finish(product.epilogue, rows @ columns.T, rest, y)

    return compute
