"""Operators whose result at one place does not depend on rows that do not count."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir

from gcompile.ir.bounded.sizes import Bounded, Size
from gcompile.ir.bounded.step import CannotBoundError, Result, Step

_KEEP_ZEROS = frozenset({"Identity", "Cast", "Mul", "Where"})
"""Zeros where elements do not count stay zeros; of Where, if both values have them there."""

_BY_ROW = (
    "AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "DepthToSpace",
    "GlobalAveragePool", "GlobalMaxPool", "InstanceNormalization", "GroupNormalization",
    "LRN", "MaxPool", "SpaceToDepth", "Resize",
)  # fmt: skip
_REDUCTIONS = (
    "ArgMax", "ArgMin", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp",
    "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
)  # fmt: skip
ELEMENTWISE = frozenset({
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift",
    "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast", "Ceil", "Celu", "Clip",
    "Cos", "Cosh", "DequantizeLinear", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu",
    "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN",
    "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul",
    "Neg", "Not", "Or", "PRelu", "Pow", "QuantizeLinear", "Reciprocal", "Relu", "Round",
    "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub",
    "Sum", "Tan", "Tanh", "ThresholdedRelu", "Where", "Xor",
})  # fmt: skip


def elementwise(step: Step) -> Sequence[Result]:
    """Sizes that broadcast: one counted size meets itself, or a single row."""
    if step.node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return [Result(step.bounded(0))]
    inputs = range(len(step.node.inputs))
    shapes = {index: step.static(index) for index in inputs if step.has(index)}
    rank = max(map(len, shapes.values()))
    axes: dict[int, Size] = {}
    for index, shape in shapes.items():
        for axis, size in step.bounded(index).axes.items():
            place = axis + rank - len(shape)
            if axes.setdefault(place, size).key != size.key:
                raise CannotBoundError("it reads sizes that are counted apart")
    for index, shape in shapes.items():
        _check_meets(shape, step.bounded(index), axes, rank)
    values = list(inputs)[1:] if step.node.op_type == "Where" else list(inputs)
    is_clean = step.node.op_type in _KEEP_ZEROS and all(
        step.bounded(index).is_clean for index in values
    )
    return [Result(Bounded(axes, is_clean), _divided(step))]


def _divided(step: Step) -> onnx_ir.Value | None:
    """Whole numbers are divided by one where divisors do not count: zero would end the process."""
    if step.node.op_type not in ("Div", "Mod") or not step.bounded(1).axes:
        return None
    if step.dtype(1).numpy().kind not in "iu":
        return None
    divisor = step.masked(step.input(1), dict(step.bounded(1).axes), 1)
    return step.same(step.node.op_type, step.input(0), divisor)


def _check_meets(shape: Sequence[int], own: Bounded, axes: dict[int, Size], rank: int) -> None:
    for place in axes:
        axis = place - rank + len(shape)
        if axis >= 0 and axis not in own.axes and shape[axis] != 1:
            raise CannotBoundError("it reads a counted size beside one that is not")


def by_row(step: Step) -> Sequence[Result]:
    """Rows, or images, that are computed one by one."""
    axes = step.bounded(0).axes
    if any(axis != 0 for axis in axes) or any(
        step.bounded(index).axes for index in range(1, len(step.node.inputs))
    ):
        raise CannotBoundError("it mixes elements along a counted size")
    return [Result(Bounded(axes)) for _ in step.node.outputs]


def matrices(step: Step) -> Sequence[Result]:
    """Rows of the left matrix and columns of the right one; never what is added up."""
    if step.node.op_type == "Gemm":
        if step.integer("transA", 0):
            raise CannotBoundError("it adds up along a counted size")
        return by_row(step) if 1 not in step.bounded(0).axes else _adds_up()
    ranks = [len(step.static(index)) for index in (0, 1)]
    left, right = step.bounded(0).axes, step.bounded(1).axes
    if ranks[0] - 1 in left or max(ranks[1] - 2, 0) in right or min(ranks) < 2:
        return _adds_up()
    rank = max(ranks)
    found = {axis + rank - ranks[0]: size for axis, size in left.items()}
    for axis, size in right.items():
        place = axis + rank - ranks[1]
        if found.setdefault(place, size).key != size.key:
            raise CannotBoundError("it reads sizes that are counted apart")
    for index, own in enumerate((left, right)):
        for place in found:
            axis = place - rank + ranks[index]
            is_batch = place < rank - 2 and axis >= 0
            if is_batch and axis not in own and step.static(index)[axis] != 1:
                raise CannotBoundError("it reads a counted size beside one that is not")
    return [Result(Bounded(found))]


def _adds_up() -> Sequence[Result]:
    raise CannotBoundError("it adds up along a counted size")


def along_axis(default: int) -> Callable[[Step], Sequence[Result]]:
    """Operators along one axis, which is not counted."""

    def rule(step: Step) -> Sequence[Result]:
        axis = step.axis(default, len(step.static(0)))
        own = step.bounded(0)
        is_wide = step.node.op_type == "LayerNormalization"
        if any(place >= axis if is_wide else place == axis for place in own.axes):
            raise CannotBoundError("it mixes elements along a counted size")
        return [Result(Bounded(own.axes)) for _ in step.node.outputs]

    return rule


def regions(step: Step) -> Sequence[Result]:
    """RoiAlign: a result for each region; those that do not count are empty ones."""
    if step.bounded(0).axes:
        raise CannotBoundError("the images it reads are counted")
    axes = dict(step.bounded(1).axes or step.bounded(2).axes)
    boxes, images = (step.masked(step.input(index), axes, 0) for index in (1, 2))
    return [Result(Bounded(axes), step.same("RoiAlign", step.input(0), boxes, images))]


def softmax(step: Step) -> Sequence[Result]:
    """Along a counted size, what does not count is minus infinity."""
    axis, own = step.axis(-1, len(step.static(0))), step.bounded(0)
    if axis not in own.axes:
        return [Result(Bounded(own.axes))]
    x = step.masked(step.input(0), {axis: own.axes[axis]}, -math.inf)
    return [Result(Bounded(own.axes), step.same(step.node.op_type, x))]


def cumulative(step: Step) -> Sequence[Result]:
    """Sums of what comes before: it counts wherever the place does."""
    if step.integer("reverse", 0):
        raise CannotBoundError("it adds up from the end of a counted size")
    return [Result(Bounded(step.bounded(0).axes))]


def reduction(step: Step) -> Sequence[Result]:
    """Along counted sizes, what does not count is what changes nothing."""
    operator, shape = step.node.op_type, step.static(0)
    axes = _reduced_axes(step, len(shape))
    own = step.bounded(0)
    counted = {axis: size for axis, size in own.axes.items() if axis in axes}
    keep = step.integer("keepdims", 1)
    left = [axis for axis in range(len(shape)) if axis not in axes]
    after = own.moved(
        lambda a: None if a in axes else a if keep else left.index(a), is_clean=False
    )
    if not counted:
        return [Result(after)]
    if operator == "ReduceMean":
        return [Result(after, _mean(step, counted, axes, shape))]
    x = step.masked(step.input(0), counted, _neutral(step, operator))
    return [Result(after, step.same(operator, x, *step.node.inputs[1:]))]


def _reduced_axes(step: Step, rank: int) -> list[int]:
    if step.node.op_type.startswith("Arg"):
        return [step.axis(0, rank)]
    axes = step.known(1)
    if axes is None and step.has(1):
        raise CannotBoundError("its axes are computed")
    if axes is None or not axes.size:
        return [] if step.integer("noop_with_empty_axes", 0) else list(range(rank))
    return [int(axis) % rank for axis in axes]


def _neutral(step: Step, operator: str) -> float | int:
    dtype = step.dtype(0).numpy()
    ends = (-math.inf, math.inf) if dtype.kind not in "iu" else (
        np.iinfo(dtype).min, np.iinfo(dtype).max)  # fmt: skip
    match operator:
        case "ReduceMax" | "ArgMax":
            return ends[0]
        case "ReduceMin" | "ArgMin":
            return ends[1]
        case "ReduceProd":
            return 1
        case "ReduceLogSumExp":
            return -math.inf
    return 0


def _mean(
    step: Step, counted: dict[int, Size], axes: Sequence[int], shape: Sequence[int]
) -> onnx_ir.Value:
    x = step.masked(step.input(0), counted, 0)
    keep = step.integer("keepdims", 1)
    total = step.op("ReduceSum", x, step.constant(list(axes)), keepdims=keep)
    others = math.prod(shape[axis] for axis in axes if axis not in counted)
    count = step.constant(np.array(others))
    for size in counted.values():
        scalar = step.op("Squeeze", size.count, step.constant([0]))
        count = step.op("Mul", count, scalar)
    return step.op("Div", total, step.cast(count, step.dtype(0)))


ROWS = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(_BY_ROW, by_row),
    "Gemm": matrices,
    "MatMul": matrices,
    "Softmax": softmax,
    "LogSoftmax": softmax,
    "LayerNormalization": along_axis(-1),
    "LpNormalization": along_axis(-1),
    "CumSum": cumulative,
    "RoiAlign": regions,
    **dict.fromkeys(_REDUCTIONS, reduction),
}
