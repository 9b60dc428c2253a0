"""Fold a Pad into the convolution or pool that reads it.

A convolution pads with zeros, so zeros fold in. A maximum ignores what is never the largest:
minus infinity, or zero where no input is negative. A mean that counts its padding pads with zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gcompile import ir
from gcompile.passes.base import NodePass, Numerics, PassContext, Skip

_NEVER_NEGATIVE = frozenset(
    {"Relu", "Sigmoid", "HardSigmoid", "Softplus", "Abs", "Exp", "Sqrt", "Softmax"}
)


@dataclass(frozen=True)
class FoldPad(NodePass):
    """Fold a spatial Pad into the Conv, MaxPool or AveragePool that reads it."""

    name = "fold-pad"
    numerics = Numerics.ROUNDING
    ops = frozenset({"Pad"})

    def rewrite(self, node: ir.Node, ctx: PassContext) -> Skip | None:
        """Add the padding to the reader's own, and drop the node."""
        x, window = node.inputs[0], ir.only_reader(node.outputs[0])
        if x is None or window is None or window.inputs[0] is not node.outputs[0]:
            return Skip("it has no single reader")
        if window.domain or window.op_type not in ("Conv", "MaxPool", "AveragePool"):
            return Skip("its reader is not a convolution or pool")
        padding = _padding(node)
        if isinstance(padding, str):
            return Skip(padding)
        before, after, value = padding
        if any(before[:2]) or any(after[:2]):
            return Skip("it pads the batch or the channels")
        if reason := _objection(window, before[2:], after[2:], value, x):
            return Skip(reason)
        _add_padding(window, before[2:] + after[2:])
        if window.op_type == "AveragePool":
            window.attributes["count_include_pad"] = ir.Attr(
                "count_include_pad", ir.AttributeType.INT, 1
            )
        window.replace_input_with(0, x)
        ir.add_origin(window, [node], self.name)
        if node.graph is not None:
            node.graph.remove(node, safe=True)
        return None


def _padding(node: ir.Node) -> tuple[list[int], list[int], float] | str:
    """Read (begin, end) per axis and the value, or say why they are not known."""
    if node.attributes.get_string("mode", "constant") != "constant":
        return "it does not pad with a constant"
    inputs = [*node.inputs, None, None]
    pads = ir.constant_array(inputs[1])
    value = ir.constant_array(inputs[2]) if inputs[2] is not None else np.zeros(1)
    rank = len(ir.static_shape(node.inputs[0]))
    axes = ir.constant_array(inputs[3]) if inputs[3] is not None else np.arange(rank)
    if pads is None or value is None or axes is None:
        return "its padding is not constant"
    if np.any(pads.astype(np.int64) < 0):
        return "it crops"
    before, after = [0] * rank, [0] * rank
    for axis, low, high in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        before[int(axis)], after[int(axis)] = int(low), int(high)
    return before, after, float(value.reshape(-1)[0])


def _objection(
    window: ir.Node, before: list[int], after: list[int], value: float, x: ir.Value
) -> str | None:
    """Say why the window cannot take the padding, or return None."""
    if window.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return "the reader pads automatically"
    if window.op_type == "Conv":
        return None if value == 0 else "a convolution pads with zero"
    if window.attributes.get_int("ceil_mode", 0):
        return "the pool rounds its size up"
    total = np.add(_pads(window), before + after)
    if np.any(total >= np.tile(window.attributes.get_ints("kernel_shape"), 2)):
        return "a window would lie in the padding"
    if window.op_type == "AveragePool":
        return _objection_of_mean(window, value)
    if len(window.outputs) > 1 and window.outputs[1].uses():
        return "the indices of the maximum are read"
    producer = x.producer()
    if value == 0 and producer is not None and producer.op_type in _NEVER_NEGATIVE:
        return None
    lowest = float(np.finfo(np.float32).min)
    return None if value <= lowest else "the padding could be the maximum"


def _objection_of_mean(window: ir.Node, value: float) -> str | None:
    if value != 0:
        return "a mean pads with zero"
    counted = window.attributes.get_int("count_include_pad", 0)
    return None if counted or not any(_pads(window)) else "the mean leaves out its own padding"


def _pads(window: ir.Node) -> list[int]:
    spatial = len(ir.static_shape(window.inputs[0])) - 2
    return list(window.attributes.get_ints("pads", [0] * (2 * spatial)))


def _add_padding(window: ir.Node, extra: list[int]) -> None:
    pads = [own + more for own, more in zip(_pads(window), extra, strict=True)]
    window.attributes.pop("auto_pad", None)
    window.attributes["pads"] = ir.Attr("pads", ir.AttributeType.INTS, pads)
