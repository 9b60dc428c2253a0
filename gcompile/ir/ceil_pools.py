"""Pools whose output sizes are rounded up, by the rule of opset 22, as older opsets can say it.

Since opset 22 no window starts on the padding after the image: such a last window is left out. The
rule of the opsets before keeps it, so there the rounding, or the padding it looks at, must go.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir

from gcompile.errors import UnsupportedNode, UnsupportedOperatorsError
from gcompile.ir.infer import infer_graph
from gcompile.ir.walk import all_nodes

FIRST_OPSET = 22
"""The first opset with the rule."""

_POOLS = frozenset({"MaxPool", "AveragePool", "LpPool"})


@dataclass(frozen=True)
class _Axis:
    """A window along one axis: what of the padded image is left over after the last full one."""

    size: int
    begin: int
    end: int
    reach: int
    stride: int

    @property
    def full(self) -> int:
        """How many windows lie inside the padded image."""
        return (self.size + self.begin + self.end - self.reach) // self.stride + 1

    @property
    def left_over(self) -> int:
        return (self.size + self.begin + self.end - self.reach) % self.stride

    @property
    def is_dropped(self) -> bool:
        """The window after the full ones would start on the padding after the image."""
        return bool(self.left_over) and self.full * self.stride >= self.size + self.begin


def settle_ceil_pools(model: onnx_ir.Model) -> None:
    """Rewrite the pools of a model of opset 22 or newer that the rule changes, in place.

    Raises:
        UnsupportedOperatorsError: The rule asks for what only cropping the image would say.
    """
    found = [
        node
        for node in all_nodes(model)
        if node.op_type in _POOLS
        and not node.domain
        and node.attributes.get_int("ceil_mode", False)
    ]
    if found:
        infer_graph(model.graph, model.opset_imports)
    for node in found:
        _settle(node)


def _settle(node: onnx_ir.Node) -> None:
    axes = _axes(node)
    if not any(axis.is_dropped for axis in axes):
        return
    if all(axis.is_dropped or not axis.left_over for axis in axes):
        node.attributes["ceil_mode"] = onnx_ir.AttrInt64("ceil_mode", 0)
        return
    ends = [axis.end - axis.left_over if axis.is_dropped else axis.end for axis in axes]
    if min(ends) < 0:
        reason = "ceil_mode drops the last window along one axis and keeps that along another"
        raise UnsupportedOperatorsError(
            [UnsupportedNode(str(node.name), node.op_type, reason, "pad the image before it")]
        )
    pads = [*(axis.begin for axis in axes), *ends]
    node.attributes["pads"] = onnx_ir.AttrInt64s("pads", pads)


def _axes(node: onnx_ir.Node) -> list[_Axis]:
    """The axes of the window; none where padding is not written out or the shape not known."""
    value = node.inputs[0]
    kernel = node.attributes.get_ints("kernel_shape")
    automatic = node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET"
    if automatic or value is None or value.shape is None or not value.shape.is_static():
        return []
    count = len(kernel)
    strides = node.attributes.get_ints("strides", [1] * count)
    dilations = node.attributes.get_ints("dilations", [1] * count)
    pads = node.attributes.get_ints("pads", [0] * 2 * count)
    return [
        _Axis(size, pads[i], pads[count + i], (kernel[i] - 1) * dilations[i] + 1, strides[i])
        for i, size in enumerate(value.shape.numpy()[2:])
    ]
