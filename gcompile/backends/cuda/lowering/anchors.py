"""Regions whose product runs on tensor cores: read from the graph, cut into tiles, given kernels.

Convolutions read and write images with the channels last (NHWC), matrix products plain tensors.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.backends.cuda.kernel import KernelSequence, Step
from gcompile.backends.cuda.kernels.choose_tile import choose_tile
from gcompile.backends.cuda.kernels.epilogue import Epilogue
from gcompile.backends.cuda.kernels.product import Product
from gcompile.backends.cuda.kernels.tile_cost import Work
from gcompile.backends.cuda.lowering.numeric_form import numeric_forms
from gcompile.backends.cuda.program.instruction import INSTRUCTIONS, Instruction
from gcompile.backends.cuda.program.launch import as_kernel
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    Expression,
    Image,
    Output,
    Source,
)
from gcompile.backends.tvm.lowering.expressions import (
    CannotEmitError,
    RegionExpression,
    read_region,
)
from gcompile.backends.tvm.lowering.operands import substitute
from gcompile.backends.tvm.lowering.placement import DTYPES, Layout
from gcompile.backends.tvm.lowering.scaling import prune, scale_by
from gcompile.backends.tvm.lowering.weights import (
    Array,
    Reals,
    constant_bias,
    constant_weights,
    matrix_weights,
)
from gcompile.backends.tvm.lowering.windows import stored_input
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
_UNIT_PRECISION = {"bf16": "bf16", "f16": "fp16", "s8": "int8", "u8": "int8"}
_UNIT_BYTES = 16
"""What a thread copies at once: channels are filled up to it, so that no copy is shorter."""

_INTERPRETED_OPERATIONS = 1_000_000
"""Operations of a launch whose CPU form is the interpreter, which does about 10^7 in a second."""

_FEWEST_ROWS = 16
_FEWEST_COLUMNS = 8


@dataclass(frozen=True)
class Operand:
    """A value that a kernel reads.

    Attributes:
        channels: Stored for each pixel, those that only pad included, which are zeros.
        border: Pixels (top, left, bottom, right) put around each image beforehand.
        fill: What they hold.
    """

    value: ir.Value
    layout: Layout
    channels: int
    border: tuple[int, int, int, int] = (0, 0, 0, 0)
    fill: int = 0


@dataclass(frozen=True)
class Anchor:
    """A region as kernels.

    Attributes:
        x: The left operand.
        constants: The packed weights, then a vector for each of the epilogue's.
        sources: What the epilogue reads.
        output: The value it writes, laid out as `layout`.
        sequence: Its operands are `x`, `weights`, `vector0`, …, `source0`, … and `y`.
    """

    x: Operand
    constants: tuple[NDArray[Any], ...]
    sources: tuple[Operand, ...]
    output: ir.Value
    layout: Layout
    sequence: KernelSequence

    @property
    def operands(self) -> tuple[str, ...]:
        """The names of what it reads and writes, in the order of a call."""
        vectors = (f"vector{i}" for i in range(len(self.constants) - 1))
        sources = (f"source{i}" for i in range(len(self.sources)))
        return ("x", "weights", *vectors, *sources, "y")


@dataclass(frozen=True)
class _Reading:
    """What a region multiplies.

    Attributes:
        weights: (out, in, kernel_h, kernel_w) as stored; `scales` per output channel.
    """

    contraction: ir.Contraction
    stored: ir.Value
    scale: float
    zero_point: int
    weights: Array
    scales: Reals
    bias: Reals
    layout: Layout
    product: ir.Value


def anchor_of(region: ir.Region, target: Target, arch: int) -> Anchor:
    """Give a region kernels on tensor cores.

    Raises:
        CannotEmitError: It is no such product, or the architecture has no unit for it.
    """
    node = region.anchor
    if node is None or region.weight_decoder is not None or ir.is_batched_product(node):
        raise CannotEmitError("it has no product with constant weights")
    reading = _convolution(region, node) if node.op_type == "Conv" else _matrix(region, node)
    instruction = _instruction(reading, arch)
    body = read_region(region, reading.layout, reading.product)
    body.expression = substitute(body.expression, _real_product(body, reading))
    if body.out_scale != 1.0:
        scale_by(body, 1.0 / body.out_scale)
    prune(body)
    return _anchor(reading, instruction, body, target, arch)


def _convolution(region: ir.Region, node: ir.Node) -> _Reading:
    shape = ir.contraction_of(node)
    if shape is None or len(ir.static_shape(node.inputs[0])) != 4:
        raise CannotEmitError("the convolution's geometry is not one kernels know")
    if shape.groups > 1:
        raise CannotEmitError("groups have no kernel on tensor cores")
    stored, scale, zero_point = stored_input(region, node.inputs[0])
    weights, scales = constant_weights(node.inputs[1])
    bias = constant_bias(node.inputs[2] if len(node.inputs) > 2 else None, shape.out_c)
    return _Reading(
        shape,
        stored,
        scale,
        zero_point,
        weights,
        scales,
        bias,
        Layout.CHANNELS_LAST,
        node.outputs[0],
    )


def _matrix(region: ir.Region, node: ir.Node) -> _Reading:
    shape = ir.contraction_of(node)
    if shape is None or shape.batch != 1 or node.attributes.get_int("transA", False):
        raise CannotEmitError("the left operand is transposed or batched")
    weights, scales = matrix_weights(node)
    stored, scale, zero_point = stored_input(region, node.inputs[0])
    bias = np.zeros(shape.out_c)
    if node.op_type == "Gemm":
        scales = scales * node.attributes.get_float("alpha", 1.0)
        addend = constant_bias(node.inputs[2] if len(node.inputs) > 2 else None, shape.out_c)
        bias = addend * node.attributes.get_float("beta", 1.0)
    return _Reading(
        shape,
        stored,
        scale,
        zero_point,
        weights,
        scales,
        bias,
        Layout.ROWS,
        node.outputs[0],
    )


def _instruction(reading: _Reading, arch: int) -> Instruction:
    """The instruction for the stored types.

    Raises:
        CannotEmitError: There is none, or the product is too small for it.
    """
    dtype = reading.stored.dtype or ir.DataType.FLOAT
    name = _INSTRUCTIONS.get(dtype)
    if name is None:
        raise CannotEmitError(f"tensor cores do not multiply {dtype.name.lower()} exactly")
    instruction = INSTRUCTIONS[name]
    if instruction.architecture > arch:
        raise CannotEmitError(f"sm_{arch} has no {instruction.name}")
    if instruction.sums == "int32" and reading.weights.dtype != np.int8:
        raise CannotEmitError("the input is quantized and the weight is not")
    shape = reading.contraction
    if shape.m < _FEWEST_ROWS or shape.n < _FEWEST_COLUMNS:
        raise CannotEmitError("it is too small for tensor cores")
    return instruction


def _real_product(body: RegionExpression, reading: _Reading) -> Expression:
    """The real product in terms of the sum: sum · S + B, the zero point folded into B."""
    bias = reading.bias
    if reading.stored.dtype not in (ir.DataType.INT8, ir.DataType.UINT8):
        if not bias.any():
            return Accumulator()
        return Binary("add", Accumulator(), body.add_vector(bias.astype(np.float32)))
    factor = reading.scales * reading.scale
    sums = reading.weights.astype(np.float64).sum(axis=(1, 2, 3))
    offset = bias - reading.zero_point * sums * factor
    scaled = Binary("mul", Accumulator(), body.add_vector(factor.astype(np.float32)))
    return Binary("add", scaled, body.add_vector(offset.astype(np.float32)))


def _anchor(
    reading: _Reading,
    instruction: Instruction,
    body: RegionExpression,
    target: Target,
    arch: int,
) -> Anchor:
    size = instruction.element_bytes
    x = _left_operand(reading, size)
    shape = reading.contraction
    image = Image(shape.batch, shape.out_h, shape.out_w, shape.out_c, _dtype(body.output))
    if reading.layout is Layout.ROWS:
        image = Image(1, 1, shape.m, shape.out_c, _dtype(body.output))
    shape = replace(shape, in_c=x.channels)
    if any(x.border):
        top, left, bottom, right = x.border
        shape = replace(
            shape,
            in_h=shape.in_h + top + bottom,
            in_w=shape.in_w + left + right,
            pad_top=0,
            pad_left=0,
            pad_bottom=0,
            pad_right=0,
        )
    weights = _packed(reading, instruction, x.channels)
    operands = tuple(_source(source.value, reading.layout, image) for source in body.sources)
    epilogue = Epilogue(
        Output(image, 1.0, body.out_zero_point),
        body.expression,
        tuple(
            Source(found, source.scale, source.zero_point)
            for (_, found), source in zip(operands, body.sources, strict=True)
        ),
        len(body.vectors),
    )
    out_bytes = itemsize(image.dtype) + sum(
        itemsize(found.dtype) for _, found in operands if found.size == image.size
    )
    try:
        tile = choose_tile(Work(shape, 1, instruction, out_bytes), target, arch)
    except TargetError as error:
        raise CannotEmitError(str(error)) from error
    product = Product("product", instruction, shape, tile, epilogue, x.channels, weights.shape[-1])
    return Anchor(
        x,
        (weights, *body.vectors),
        tuple(operand for operand, _ in operands),
        body.output,
        reading.layout,
        _sequence(_named(product)),
    )


def _left_operand(reading: _Reading, element_bytes: int) -> Operand:
    """Channels are filled up to whole copies; a border that is not zeros is put around before."""
    shape, whole = reading.contraction, _UNIT_BYTES // element_bytes
    channels = -(-shape.in_c // whole) * whole
    operand = Operand(reading.stored, reading.layout, channels)
    if reading.zero_point and any(shape.pads):
        return replace(operand, border=shape.pads, fill=reading.zero_point)
    return operand


def _packed(reading: _Reading, instruction: Instruction, channels: int) -> NDArray[Any]:
    """Weights as (out, depth), the depth in the order (y, x, channel), zeros in what only pads."""
    dtype = _WEIGHTS[instruction.right]
    weights = reading.weights
    if instruction.sums == "float32":
        scales = reading.scales.astype(np.float32).reshape(-1, 1, 1, 1)
        weights = weights.astype(np.float32) * scales
    ordered = np.moveaxis(weights, 1, -1)
    missing = channels - ordered.shape[-1]
    padded = np.pad(ordered, [(0, 0), (0, 0), (0, 0), (0, missing)])
    stored = np.ascontiguousarray(padded.reshape(padded.shape[0], -1).astype(dtype))
    # Only the bytes count, and constants of a module have no bfloat16.
    return stored.view(np.uint16) if instruction.right == "bf16" else stored


def _source(value: ir.Value, layout: Layout, output: Image) -> tuple[Operand, Image]:
    shape, dtype = ir.static_shape(value), _dtype(value)
    if math.prod(shape) == 1:
        return Operand(value, Layout.ROWS, 1), Image(1, 1, 1, 1, dtype)
    if layout is Layout.CHANNELS_LAST and len(shape) == 4:
        batch, channels, height, width = shape
        image = Image(batch, height, width, channels, dtype)
        return Operand(value, layout, channels), image
    if layout is Layout.ROWS:
        image = Image(1, 1, math.prod(shape[:-1]), shape[-1], dtype)
        if image.channels == output.channels and image.width in (1, output.width):
            return Operand(value, layout, shape[-1]), image
    raise CannotEmitError(f"an input of shape {shape} is broadcast in a way kernels do not know")


def _named(product: Product) -> Product:
    """Equal products get equal names, whatever they are called."""
    digest = hashlib.sha256(repr(replace(product, name="")).encode()).hexdigest()[:16]
    kind = "gemm" if product.contraction.kernel_h * product.contraction.kernel_w == 1 else "conv"
    return replace(product, name=f"{kind}_{product.instruction.left}_{digest}")


def _sequence(product: Product) -> KernelSequence:
    c, instruction, tile = product.contraction, product.instruction, product.tile
    rows, columns = product.blocks
    issued = 2 * rows * tile.rows * columns * tile.columns * c.k
    unit = f"tensor-core-{_UNIT_PRECISION[instruction.left]}"
    kernels = [
        as_kernel(program, unit if i == 0 else "cuda-core", issued if i == 0 else 0, arch)
        for i, (program, arch) in enumerate(
            (program, instruction.architecture) for program in product.programs()
        )
    ]
    if issued > _INTERPRETED_OPERATIONS:
        forms = numeric_forms(product)
        kernels = [replace(k, cpu=form) for k, form in zip(kernels, forms, strict=True)]
    steps = tuple(
        Step(kernel, tuple(argument.name for argument in kernel.arguments)) for kernel in kernels
    )
    scratch = {}
    if len(kernels) > 1:
        scratch["shares"] = product.shares.elements * product.shares.element_bytes
    return KernelSequence(steps, scratch)


def _dtype(value: ir.Value) -> str:
    dtype = DTYPES.get(value.dtype or ir.DataType.FLOAT)
    if dtype is None:
        raise CannotEmitError(f"a value has type {value.dtype}")
    return dtype


def itemsize(dtype: str) -> int:
    """Bytes of one element of a type, as numpy or `ml_dtypes` name it."""
    return np.dtype(getattr(ml_dtypes, dtype, dtype)).itemsize
