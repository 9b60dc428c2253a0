"""Pools of images that lie with their channels last: what they write lies so, too."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.backends.cuda.kernel import Buffer, CpuForm, Kernel, KernelSequence
from gcompile.backends.cuda.kernels.pool import Pool, shared, warps_for
from gcompile.backends.cuda.kernels.pool_window import Function, PoolWindow
from gcompile.backends.cuda.lowering.anchor import Anchor, Operand, epilogue_of, storage_of
from gcompile.backends.cuda.lowering.numbers import with_numbers
from gcompile.backends.cuda.lowering.numeric_form import INTERPRETED_OPERATIONS, finish
from gcompile.backends.cuda.lowering.reading import real_number
from gcompile.backends.cuda.program.launch import as_kernel, least_arch_of
from gcompile.backends.cuda.program.program import Storage
from gcompile.backends.tvm.kernels.spec import Image
from gcompile.backends.tvm.lowering.expressions import read_region
from gcompile.backends.tvm.lowering.operands import substitute
from gcompile.backends.tvm.lowering.placement import Layout
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError
from gcompile.backends.tvm.lowering.scaling import prune, scale_by
from gcompile.backends.tvm.lowering.windows import window_of
from gcompile.targets import Target


def pool_anchor(
    region: ir.Region, target: Target, arch: int, lies_last: Callable[[ir.Value], bool]
) -> Anchor:
    """Give a pool its kernel.

    Args:
        region: A region with a pool.
        target: The GPU.
        arch: Its architecture: 80 for sm_80.
        lies_last: Whether an image lies with its channels last already.

    Raises:
        CannotEmitError: It is no pool over an image, or its types are not ones kernels know.
    """
    window = window_of(region)
    if window is None or len(ir.static_shape(window.stored)) != 4:
        raise CannotEmitError("the pool's geometry is not one kernels know")
    if not lies_last(window.stored):
        raise CannotEmitError("the pool's image has its channels first")
    node, shape = window.node, window.contraction
    rows = len(ir.static_shape(node.outputs[0])) == 2
    layout = Layout.ROWS if rows else Layout.CHANNELS_LAST
    body = read_region(region, layout, node.outputs[0])
    body.expression = substitute(body.expression, real_number(window.scale, window.zero_point))
    if body.out_scale != 1.0:
        scale_by(body, 1.0 / body.out_scale)
    prune(body)
    image = Image(shape.batch, shape.out_h, shape.out_w, shape.out_c, storage_of(body.output))
    if rows:
        image = Image(1, 1, shape.batch, shape.out_c, image.dtype)
    plain, operands = epilogue_of(body, image, layout)
    found = with_numbers(plain)
    function: Function = "max" if "Max" in node.op_type else "mean"
    counts_padding = bool(node.attributes.get_int("count_include_pad", 0))
    pooled = PoolWindow(
        shape,
        cast(Storage, storage_of(window.stored)),
        function,
        counts_padding,
        window.zero_point if function == "mean" and counts_padding else 0,
    )
    pool = Pool("pool", pooled, found.epilogue, shared(pooled))
    kernel = _kernel(replace(pool, warps=warps_for(pool, target.processors)))
    if kernel.least_arch > arch:
        raise CannotEmitError(f"sm_{arch} does not convert bfloat16")
    return Anchor(
        Operand(window.stored, Layout.CHANNELS_LAST, shape.in_c),
        (*body.vectors, *found.constants),
        operands,
        body.output,
        layout,
        KernelSequence.of(kernel),
        stored=(),
        has_numbers=bool(found.constants),
    )


def _kernel(pool: Pool) -> Kernel:
    window = pool.window
    digest = hashlib.sha256(repr(pool).encode()).hexdigest()[:16]
    program = replace(pool, name=f"pool_{window.function}_{window.x}_{digest}").program()
    operations = window.contraction.m * window.contraction.n * window.size
    kernel = as_kernel(program, operations=operations, least_arch=least_arch_of(program))
    return (
        replace(kernel, cpu=whole_arrays(pool)) if operations > INTERPRETED_OPERATIONS else kernel
    )


def whole_arrays(pool: Pool) -> CpuForm:
    """The same in whole arrays."""
    window, c = pool.window, pool.window.contraction
    wide: type[np.generic] = np.int32 if window.is_integer else np.float32

    def compute(buffers: Sequence[Buffer]) -> None:
        x, *rest, y = buffers
        image = x.astype(wide).reshape(c.batch, c.in_h, c.in_w, c.in_c)
        if window.function == "max":
            pooled = functools.reduce(np.maximum, _pixels(window, image, window.lowest))
        else:
            sums = functools.reduce(np.add, _pixels(window, image, window.fill))
            ones = np.ones((1, c.in_h, c.in_w, 1), np.float32)
            counted = functools.reduce(np.add, _pixels(window, ones, window.counts_padding))
            pooled = sums.astype(np.float32) / counted
        finish(pool.epilogue, pooled.reshape(c.m, c.n), rest, y)

    return compute


def _pixels(window: PoolWindow, image: NDArray[Any], padding: float) -> Iterator[NDArray[Any]]:
    """Each pixel of all windows in turn: an array (batch, out_h, out_w, channels) for every one.

    Args:
        window: Gives the geometry.
        image: (batch, in_h, in_w, channels).
        padding: What lies around it; of means, zeros lie around that.
    """
    c, beyond = window.contraction, padding if window.function == "max" else 0
    pads = [(0, 0), (c.pad_top, c.pad_bottom), (c.pad_left, c.pad_right), (0, 0)]
    padded = np.pad(image, pads, constant_values=padding)
    more = [
        (0, max(0, reach - size))
        for reach, size in zip(window.reach, padded.shape[1:3], strict=True)
    ]
    whole = np.pad(padded, [(0, 0), *more, (0, 0)], constant_values=beyond)
    for y, x in itertools.product(range(c.kernel_h), range(c.kernel_w)):
        top, left = y * c.dilation_h, x * c.dilation_w
        yield whole[
            :,
            top : top + (c.out_h - 1) * c.stride_h + 1 : c.stride_h,
            left : left + (c.out_w - 1) * c.stride_w + 1 : c.stride_w,
        ]
