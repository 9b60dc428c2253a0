"""How operators tie the indices of what they read to those of what they write.

A rule ties what must be removed together and locks what must stay. Where an operator, or the way
it is used, has no rule, the caller locks everything it touches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gcompile import ir
from gcompile.passes.prune.coupling.contractions import conv, conv_transpose, gemm, matmul
from gcompile.passes.prune.coupling.indices import Indices
from gcompile.passes.prune.coupling.moves import (
    concat,
    expand,
    gather,
    pad,
    resize,
    slice_,
    split,
    transpose,
)

Rule = Callable[[Indices, ir.Node], str | None]
"""Ties and locks indices around a node; returns why it cannot, or None."""

ELEMENTWISE = frozenset(
    {"Abs", "Add", "And", "Cast", "Ceil", "Celu", "Clip", "Cos", "Div", "Dropout", "Elu", "Equal",
     "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish",
     "Identity", "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean",
     "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu",
     "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Sub", "Sum",
     "Swish", "Tan", "Tanh", "ThresholdedRelu", "Where", "Xor"}
)  # fmt: skip
"""Operators that compute each element from the elements at its place, with broadcasting."""

RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
"""Operators that cut the same elements into other axes: see `reshapes`."""

_WINDOWS = ("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool",
            "GlobalLpPool")  # fmt: skip
_REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1",
               "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")  # fmt: skip
_ALONG = ("Softmax", "LogSoftmax", "Hardmax", "CumSum")
_CHANNEL = 1


def elementwise(indices: Indices, node: ir.Node) -> str | None:
    """Tie each axis to the axis at its place from the right; axes of one element are repeated."""
    for out in node.outputs:
        axes = indices.of(out)
        for value in node.inputs:
            own = indices.of(value)
            for theirs, mine in zip(reversed(own), reversed(axes), strict=False):
                if len(theirs) == len(mine):
                    indices.tie(theirs, mine)
    return None


def batch_norm(indices: Indices, node: ir.Node) -> str | None:
    """Each channel has its own scale, shift, mean and variance."""
    return _per_channel(indices, node, _CHANNEL)


def instance_norm(indices: Indices, node: ir.Node) -> str | None:
    """Each channel is normalized by itself, over all of its pixels."""
    for ids in indices.of(node.inputs[0])[2:]:
        indices.lock(ids, "an InstanceNormalization runs over it")
    return _per_channel(indices, node, _CHANNEL)


def quantize(indices: Indices, node: ir.Node) -> str | None:
    """A scale and a zero point for all, or one for each index of an axis."""
    if node.attributes.get_int("block_size", 0):
        return "scales hold for blocks of elements"
    x = node.inputs[0]
    rank = len(ir.static_shape(x))
    return _per_channel(indices, node, node.attributes.get_int("axis", 1) % max(rank, 1))


def window(indices: Indices, node: ir.Node) -> str | None:
    """Pixels are joined, channels are not."""
    for value in (node.inputs[0], *node.outputs):
        for ids in indices.of(value)[2:]:
            indices.lock(ids, f"the windows of a {node.op_type} slide along it")
    for out in node.outputs:
        for theirs, mine in zip(indices.of(node.inputs[0])[:2], indices.of(out)[:2], strict=False):
            indices.tie(theirs, mine)
    return None


def reduction(indices: Indices, node: ir.Node) -> str | None:
    """What is reduced must stay whole: a mean over fewer channels is another mean."""
    x = indices.of(node.inputs[0])
    listed = node.inputs[1] if len(node.inputs) > 1 else None
    axes = ir.constant_array(listed)
    if listed is not None and axes is None:
        return "the axes it reduces are computed"
    if axes is None and node.attributes.get_int("noop_with_empty_axes", 0) == 1:
        return elementwise(indices, node)
    every = range(len(x))
    reduced = {int(a) % len(x) for a in axes.reshape(-1)} if axes is not None else set(every)
    for axis in reduced:
        indices.lock(x[axis], f"a {node.op_type} runs over it")
    kept = [axis for axis in every if axis not in reduced]
    out = indices.of(node.outputs[0])
    places = kept if node.attributes.get_int("keepdims", 1) else range(len(kept))
    for axis, place in zip(kept, places, strict=True):
        indices.tie(x[axis], out[place])
    return None


def along_axis(indices: Indices, node: ir.Node) -> str | None:
    """Elements along one axis depend on each other; the others are untouched."""
    x, out = indices.of(node.inputs[0]), indices.of(node.outputs[0])
    if node.op_type == "CumSum":
        given = ir.constant_array(node.inputs[1])
        if given is None:
            return "the axis it sums along is computed"
        axis = int(given.reshape(-1)[0])
    else:
        axis = node.attributes.get_int("axis", -1)
    indices.lock(x[axis], f"a {node.op_type} runs over it")
    for theirs, mine in zip(x, out, strict=True):
        indices.tie(theirs, mine)
    return None


def argument(indices: Indices, node: ir.Node) -> str | None:
    """The place of an extreme depends on everything before it."""
    x, out = indices.of(node.inputs[0]), indices.of(node.outputs[0])
    axis = node.attributes.get_int("axis", 0) % len(x)
    indices.lock(x[axis], f"an {node.op_type} runs over it")
    kept = [i for i in range(len(x)) if i != axis]
    places = kept if node.attributes.get_int("keepdims", 1) else range(len(kept))
    for index, place in zip(kept, places, strict=True):
        indices.tie(x[index], out[place])
    return None


def layer_norm(indices: Indices, node: ir.Node) -> str | None:
    """The width is normalized as a whole: removing a part of it changes the rest."""
    x = indices.of(node.inputs[0])
    axis = node.attributes.get_int("axis", -1) % len(x)
    for ids in x[axis:]:
        indices.lock(ids, f"a {node.op_type} runs over it")
    return scaled_width(indices, node)


def scaled_width(indices: Indices, node: ir.Node) -> str | None:
    """Tie the width of a normalization to its scales and shifts, wherever it is free to shrink."""
    x = indices.of(node.inputs[0])
    for value in (*node.inputs[1:], node.outputs[0]):
        for theirs, mine in zip(reversed(indices.of(value)), reversed(x), strict=False):
            indices.tie(theirs, mine)
    for value in node.outputs[1:]:
        for theirs, mine in zip(indices.of(value), x, strict=False):
            if len(theirs) == len(mine):
                indices.tie(theirs, mine)
    return None


def _per_channel(indices: Indices, node: ir.Node, axis: int) -> str | None:
    x = indices.of(node.inputs[0])
    for value in node.inputs[1:]:
        for ids in indices.of(value):
            if len(ids) == len(x[axis]):
                indices.tie(ids, x[axis])
            elif len(ids) != 1:
                return "its parameters do not lie along the channels"
    for theirs, mine in zip(x, indices.of(node.outputs[0]), strict=True):
        indices.tie(theirs, mine)
    return None


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(_WINDOWS, window),
    **dict.fromkeys(_REDUCTIONS, reduction),
    **dict.fromkeys(_ALONG, along_axis),
    **dict.fromkeys(("ArgMax", "ArgMin"), argument),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), layer_norm),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), quantize),
    "BatchNormalization": batch_norm,
    "Concat": concat,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Expand": expand,
    "Gather": gather,
    "Gemm": gemm,
    "InstanceNormalization": instance_norm,
    "MatMul": matmul,
    "Pad": pad,
    "Resize": resize,
    "Slice": slice_,
    "Split": split,
    "Transpose": transpose,
}
"""The rule of each operator; `Reshape` and its like come later, in `reshapes`."""
