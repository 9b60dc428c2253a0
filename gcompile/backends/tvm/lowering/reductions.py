"""Reductions over any axes: sums, means, extremes, norms."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from gcompile import ir
from gcompile.backends.tvm.kernels.reduce import ReduceKernel
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    Constant,
    Expression,
    Image,
    Load,
    Output,
    Source,
    Unary,
)
from gcompile.backends.tvm.lowering.memory import Memory
from gcompile.backends.tvm.lowering.placement import DTYPES, Layout, Placement
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError

_RANK = 4
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


@dataclass(frozen=True)
class _Reduction:
    """One operator in terms of the kernel: what is combined, how, and what follows."""

    function: str
    operand: Expression
    after: Expression


_X, _SUM = Load(0), Accumulator()
_SQUARE = Binary("mul", _X, _X)
_REDUCTIONS = {
    "ReduceSum": _Reduction("sum", _X, _SUM),
    "ReduceMax": _Reduction("max", _X, _SUM),
    "ReduceMin": _Reduction("min", _X, _SUM),
    "ReduceProd": _Reduction("product", _X, _SUM),
    "ReduceL1": _Reduction("sum", Unary("abs", _X), _SUM),
    "ReduceL2": _Reduction("sum", _SQUARE, Unary("sqrt", _SUM)),
    "ReduceSumSquare": _Reduction("sum", _SQUARE, _SUM),
    "ReduceLogSum": _Reduction("sum", _X, Unary("log", _SUM)),
}
REDUCTIONS = frozenset({*_REDUCTIONS, "ReduceMean"})


def lower_reduction(region: ir.Region, memory: Memory) -> None:
    """Emit a region of one reduction."""
    (node,) = region.nodes
    x, y = node.inputs[0], node.outputs[0]
    if x is None or x.dtype not in _FLOATS or y.dtype not in _FLOATS:
        raise CannotEmitError("only floats are reduced by kernels")
    shape = ir.static_shape(x)
    extents, kept = collapse(shape, reduced_axes(node, len(shape)))
    count = math.prod(shape) // max(math.prod(ir.static_shape(y)), 1)
    reduction = _REDUCTIONS.get(node.op_type) or _Reduction(
        "sum", _X, Binary("mul", _SUM, Constant(1.0 / count))
    )
    source = memory.tensor(x)
    image = Image(*kept, DTYPES[y.dtype], declared=ir.static_shape(y))
    kernel = ReduceKernel(
        output=Output(image),
        expression=reduction.after,
        sources=(Source(Image(*extents, source.image.dtype, declared=source.shape)),),
        operand=reduction.operand,
        extents=extents,
        function=reduction.function,
        **memory.emission.shared(region.tile.threads if region.tile else 1),
    )
    var = memory.emission.call(kernel, [source.var], image)
    memory.put(y, Placement(var, Layout.ROWS, image))


def reduced_axes(node: ir.Node, rank: int) -> set[int]:
    """The axes that a reduction removes; all of them where none is named."""
    given = node.inputs[1] if len(node.inputs) > 1 else None
    if given is None:
        listed = list(node.attributes.get_ints("axes", []))
    else:
        array = ir.constant_array(given)
        if array is None:
            raise CannotEmitError("the axes are not constant")
        listed = [int(axis) for axis in array.reshape(-1)]
    if not listed and node.attributes.get_int("noop_with_empty_axes", False):
        raise CannotEmitError("nothing is reduced")
    return {axis % rank for axis in listed} or set(range(rank))


def collapse(
    shape: tuple[int, ...], axes: set[int]
) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
    """Join neighbouring axes that are all reduced, or all kept, into an image's four.

    Returns:
        The extents of the operand, and of the result, which has 1 along what is reduced.

    Raises:
        CannotEmitError: More than four groups alternate.
    """
    groups = [
        (math.prod(shape[axis] for axis in run), is_reduced)
        for is_reduced, run in (
            (is_reduced, list(members))
            for is_reduced, members in itertools.groupby(
                range(len(shape)), key=lambda axis: axis in axes
            )
        )
    ]
    if len(groups) > _RANK:
        raise CannotEmitError("kept and reduced axes alternate more often than an image has axes")
    padded = [(1, False)] * (_RANK - len(groups)) + groups
    a, b, c, d = (size for size, _ in padded)
    kept = [1 if is_reduced else size for size, is_reduced in padded]
    return (a, b, c, d), (kept[0], kept[1], kept[2], kept[3])
