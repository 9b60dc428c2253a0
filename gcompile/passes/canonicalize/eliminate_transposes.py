"""Eliminate transposes that cancel, compose those that follow each other.

Two transposes also cancel across elementwise operators between them: those do not care in which
order they see the elements. A transpose that only moves dimensions of size one is a Reshape, which
costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gcompile import ir
from gcompile.passes.base import NodePass, Numerics, PassContext, Skip

_UNARY = frozenset(
    {"Relu", "LeakyRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu", "Selu",
     "Softplus", "Mish", "Gelu", "Erf", "Exp", "Log", "Sqrt", "Abs", "Neg", "Reciprocal", "Cast",
     "Floor", "Ceil", "Round", "Sign"}
)  # fmt: skip
_BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"})


@dataclass(frozen=True)
class EliminateTransposes(NodePass):
    """Eliminate transposes that cancel or move nothing."""

    name = "eliminate-transposes"
    numerics = Numerics.EXACT
    ops = frozenset({"Transpose"})

    def matches(self, node: ir.Node) -> bool:
        """The transpose moves nothing, or can be merged with an earlier one."""
        return _moves_nothing(node) or _earlier_transpose(node) is not None

    def rewrite(self, node: ir.Node, ctx: PassContext) -> Skip | None:
        """Cancel, compose, or turn into a Reshape."""
        x = node.inputs[0]
        if x is None or not isinstance(node.graph, ir.Graph):
            return Skip("the node is not connected")
        found = _earlier_transpose(node)
        if found is not None:
            return self._merge(node, *found)
        if _permutation(node) != sorted(_permutation(node)):
            _become_reshape(node, node.graph)
            return None
        reason = ir.bypass(node, x)
        return Skip(reason) if reason else None

    def _merge(self, node: ir.Node, earlier: ir.Node, between: list[ir.Node]) -> Skip | None:
        source, copy = earlier.inputs[0], earlier.outputs[0]
        if source is None:
            return Skip("the node is not connected")
        composed = [_permutation(earlier)[axis] for axis in _permutation(node)]
        if composed != sorted(composed):
            node.attributes["perm"] = ir.Attr("perm", ir.AttributeType.INTS, composed)
            node.replace_input_with(0, source)
            ir.add_origin(node, [earlier], self.name)
        elif reason := ir.bypass(node, between[0].outputs[0] if between else source):
            return Skip(reason)
        for step in between:
            step.outputs[0].shape = source.shape
        copy.replace_all_uses_with(source)
        if earlier.graph is not None:
            earlier.graph.remove(earlier, safe=True)
        return None


def _permutation(node: ir.Node) -> list[int]:
    rank = len(ir.static_shape(node.inputs[0]))
    return list(node.attributes.get_ints("perm", list(range(rank))[::-1]))


def _moves_nothing(node: ir.Node) -> bool:
    shape = ir.static_shape(node.inputs[0])
    moved = [axis for axis in _permutation(node) if shape[axis] != 1]
    return moved == sorted(moved) and 0 not in shape


def _earlier_transpose(node: ir.Node) -> tuple[ir.Node, list[ir.Node]] | None:
    """Walk up through elementwise nodes nobody else reads to a transpose.

    Returns:
        The transpose and the nodes between, last first; across nodes only where both cancel.
    """
    between: list[ir.Node] = []
    reader, value = node, node.inputs[0]
    while value is not None and ir.only_reader(value) is reader:
        step = value.producer()
        if step is None or step.domain:
            return None
        if step.op_type == "Transpose":
            composed = [_permutation(step)[axis] for axis in _permutation(node)]
            cancels = composed == sorted(composed)
            return (step, between) if cancels or not between else None
        if not _is_elementwise(step):
            return None
        between.append(step)
        reader, value = step, _tensor_operand(step)
    return None


def _is_elementwise(node: ir.Node) -> bool:
    return node.op_type in _UNARY or (
        node.op_type in _BINARY and _tensor_operand(node) is not None
    )


def _tensor_operand(node: ir.Node) -> ir.Value | None:
    """The one operand that is not a single constant number."""
    if node.op_type in _UNARY:
        return node.inputs[0]
    tensors = [value for value in node.inputs if not _is_number(value)]
    return tensors[0] if len(tensors) == 1 else None


def _is_number(value: ir.Value | None) -> bool:
    return ir.is_constant(value) and ir.static_shape(value) in ((), (1,))


def _become_reshape(node: ir.Node, graph: ir.Graph) -> None:
    shape = np.array(ir.static_shape(node.outputs[0]), dtype=np.int64)
    node.op_type = "Reshape"
    node.attributes.clear()
    node.resize_inputs(2)
    node.replace_input_with(1, ir.add_constant(graph, f"{node.name}::shape", shape))
