"""Depthwise convolutions in narrow types: they read and write images with the channels last."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from gcompile import ir
from gcompile.backends.cuda.kernel import Buffer, CpuForm, Kernel, KernelSequence
from gcompile.backends.cuda.kernels.depthwise import Depthwise, run_for
from gcompile.backends.cuda.lowering.anchor import Anchor, epilogue_of, storage_of
from gcompile.backends.cuda.lowering.numbers import with_numbers
from gcompile.backends.cuda.lowering.numeric_form import INTERPRETED_OPERATIONS, finish
from gcompile.backends.cuda.lowering.reading import (
    left_operand,
    read_convolution,
    real_product,
    within_border,
)
from gcompile.backends.cuda.program.launch import as_kernel, least_arch_of
from gcompile.backends.cuda.program.program import Storage
from gcompile.backends.tvm.kernels.spec import Image
from gcompile.backends.tvm.lowering.expressions import read_region
from gcompile.backends.tvm.lowering.operands import substitute
from gcompile.backends.tvm.lowering.placement import Layout
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError
from gcompile.backends.tvm.lowering.scaling import prune, scale_by
from gcompile.targets import Target

_STORAGES = ("float16", "bfloat16", "int8", "uint8")
_NARROW = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.INT8, ir.DataType.UINT8)
"""What tensor cores multiply, whose images have their channels last."""


def depthwise_anchor(region: ir.Region, target: Target, arch: int) -> Anchor:
    """Give a depthwise convolution its kernel.

    Args:
        region: A region with the convolution.
        target: The GPU.
        arch: Its architecture: 80 for sm_80.

    Raises:
        CannotEmitError: Its image or its operands are stored as the kernel does not know.
    """
    assert region.anchor is not None
    reading = read_convolution(region, region.anchor)
    storage = storage_of(reading.stored)
    is_integer = storage in ("int8", "uint8")
    if storage not in _STORAGES and not (storage == "float32" and _is_of_product(reading.stored)):
        raise CannotEmitError(f"depthwise convolutions of {storage} keep their channels first")
    if is_integer and reading.weights.dtype != np.int8:
        raise CannotEmitError("the input is quantized and the weight is not")
    body = read_region(region, reading.layout, reading.product)
    body.expression = substitute(body.expression, real_product(body, reading))
    if body.out_scale != 1.0:
        scale_by(body, 1.0 / body.out_scale)
    prune(body)
    shape, x = reading.contraction, left_operand(reading, 1)
    image = Image(shape.batch, shape.out_h, shape.out_w, shape.out_c, storage_of(body.output))
    plain, operands = epilogue_of(body, image, Layout.CHANNELS_LAST)
    found = with_numbers(plain)
    weights = reading.weights.reshape(shape.out_c, -1).T
    if not is_integer:
        weights = weights.astype(np.float32) * reading.scales.astype(np.float32)
    kernel = Depthwise(
        "depthwise",
        within_border(shape, x.border),
        cast(Storage, storage),
        "int8" if is_integer else "float32",
        found.epilogue,
    )
    run = run_for(kernel.contraction, kernel.width, target.processors)
    launched = _kernel(replace(kernel, run=run))
    if launched.least_arch > arch:
        raise CannotEmitError(f"sm_{arch} does not convert bfloat16")
    return Anchor(
        x,
        (np.ascontiguousarray(weights), *body.vectors, *found.constants),
        operands,
        body.output,
        Layout.CHANNELS_LAST,
        KernelSequence.of(launched),
        has_numbers=bool(found.constants),
    )


def _is_of_product(value: ir.Value) -> bool:
    """Say whether tensor cores made the image, or what it was made of value by value.

    Depthwise convolutions in the middle of a bf16 model compute in float32; their images lie as
    those of the products around them.
    """
    node = value.producer()
    while node is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type == "Conv":
            return _stored_dtype(node.inputs[0]) in _NARROW
        if ir.static_shape(node.inputs[0]) != ir.static_shape(value):
            return False
        node = node.inputs[0].producer()
    return False


def _stored_dtype(value: ir.Value) -> ir.DataType | None:
    """The type in memory of what a product reads, which may be widened just before."""
    node = value.producer()
    widened = node is not None and node.op_type in ("Cast", "DequantizeLinear")
    source = node.inputs[0] if node is not None and widened else None
    return (source if source is not None else value).dtype


def _kernel(depthwise: Depthwise) -> Kernel:
    digest = hashlib.sha256(repr(depthwise).encode()).hexdigest()[:16]
    named = replace(depthwise, name=f"depthwise_{depthwise.x}_{digest}")
    c = depthwise.contraction
    operations = 2 * c.m * c.n * c.kernel_h * c.kernel_w
    program = named.program()
    kernel = as_kernel(program, operations=operations, least_arch=least_arch_of(program))
    return replace(kernel, cpu=_numeric(named)) if operations > INTERPRETED_OPERATIONS else kernel


def _numeric(depthwise: Depthwise) -> CpuForm:
    """The same in whole arrays: in float32, or exactly for integers."""
    c = depthwise.contraction
    is_integer = depthwise.x in ("int8", "uint8")
    pads = [(0, 0), (c.pad_top, c.pad_bottom), (c.pad_left, c.pad_right), (0, 0)]

    def compute(buffers: Sequence[Buffer]) -> None:
        x, weights, *rest, y = buffers
        wide = np.int32 if is_integer else np.float32
        image = np.pad(x.astype(wide).reshape(c.batch, c.in_h, c.in_w, c.in_c), pads)
        taps = weights.astype(wide).reshape(c.kernel_h, c.kernel_w, c.in_c)
        sums = np.zeros((c.batch, c.out_h, c.out_w, c.out_c), wide)
        for ky in range(c.kernel_h):
            for kx in range(c.kernel_w):
                top, left = ky * c.dilation_h, kx * c.dilation_w
                rows = slice(top, top + (c.out_h - 1) * c.stride_h + 1, c.stride_h)
                columns = slice(left, left + (c.out_w - 1) * c.stride_w + 1, c.stride_w)
                sums += image[:, rows, columns] * taps[ky, kx]
        finish(depthwise.epilogue, sums.reshape(math.prod(sums.shape[:3]), -1), rest, y)

    return compute
