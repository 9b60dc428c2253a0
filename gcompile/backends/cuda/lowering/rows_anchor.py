"""Softmax and normalizations along the last axis, with what is around them, as one launch."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace

from gcompile import ir
from gcompile.backends.cuda.kernel import Kernel, KernelSequence
from gcompile.backends.cuda.kernels.rows import Kind, Rows
from gcompile.backends.cuda.lowering.anchor import Anchor, epilogue_of, storage_of
from gcompile.backends.cuda.lowering.numbers import with_numbers
from gcompile.backends.cuda.program.launch import as_kernel, least_arch_of
from gcompile.backends.tvm.kernels.spec import Image
from gcompile.backends.tvm.lowering.expressions import read_region
from gcompile.backends.tvm.lowering.operands import substitute
from gcompile.backends.tvm.lowering.placement import Layout
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError
from gcompile.backends.tvm.lowering.rows import affine_of
from gcompile.backends.tvm.lowering.scaling import prune, scale_by
from gcompile.targets import Target

ROWS: dict[str, Kind] = {
    "Softmax": "softmax",
    "LogSoftmax": "log-softmax",
    "LayerNormalization": "layer-norm",
    "RMSNormalization": "rms-norm",
}

_EPSILON = 1e-5

_FEWEST = 8
"""Elements of a row that are worth a warp."""

_WARPS = (4, 2, 1)


def rows_anchor(region: ir.Region, target: Target, arch: int) -> Anchor:
    """Give a softmax or a normalization its kernel.

    Raises:
        CannotEmitError: It runs along another axis, or its rows are too long or too short.
    """
    node = next(node for node in region.nodes if node.op_type in ROWS)
    shape = ir.static_shape(node.outputs[0])
    axis = node.attributes.get_int("axis", -1) % max(len(shape), 1)
    if axis != len(shape) - 1 or any(value.uses() for value in node.outputs[1:]):
        raise CannotEmitError(f"{node.op_type} runs along axis {axis} of {len(shape)}")
    if shape[-1] < _FEWEST:
        raise CannotEmitError(f"rows of {shape[-1]} elements are too short for a warp")
    body = read_region(region, Layout.ROWS, node.outputs[0], operand=node.inputs[0])
    body.expression = substitute(body.expression, affine_of(node, Layout.ROWS, body))
    if body.out_scale != 1.0:
        scale_by(body, 1.0 / body.out_scale)
    prune(body)
    if body.operand is None:
        raise CannotEmitError("what it reads is no expression")
    out = ir.static_shape(body.output)
    image = Image(1, 1, math.prod(out[:-1]), out[-1], storage_of(body.output))
    epilogue, sources = epilogue_of(body, image, Layout.ROWS)
    found = with_numbers(replace(epilogue, expression=body.operand), epilogue)
    operand, following = found.epilogues
    try:
        rows = Rows(
            "rows",
            ROWS[node.op_type],
            operand,
            following,
            node.attributes.get_float("epsilon", _EPSILON),
        )
    except ValueError as error:
        raise CannotEmitError(str(error)) from error
    blocks = (w for w in _WARPS if -(-rows.rows // w) >= target.processors)
    kernel = _kernel(replace(rows, warps=next(blocks, 1)))
    if kernel.least_arch > arch:
        raise CannotEmitError(f"sm_{arch} does not convert bfloat16")
    return Anchor(
        None,
        (*body.vectors, *found.constants),
        sources,
        body.output,
        Layout.ROWS,
        KernelSequence.of(kernel),
        stored=(),
        has_numbers=bool(found.constants),
    )


def _kernel(rows: Rows) -> Kernel:
    digest = hashlib.sha256(repr(replace(rows, name="")).encode()).hexdigest()[:16]
    program = replace(rows, name=f"rows_{rows.kind.replace('-', '_')}_{digest}").program()
    return as_kernel(program, least_arch=least_arch_of(program))
