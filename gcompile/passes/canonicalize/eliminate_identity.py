"""Eliminate nodes that return their input unchanged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gcompile import ir
from gcompile.passes.base import Numerics, Pass, PassContext


@dataclass(frozen=True)
class EliminateIdentity(Pass):
    """Eliminate nodes that return their input unchanged, bit for bit."""

    name = "eliminate-identity"
    numerics = Numerics.EXACT

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        """Let the readers of each such node read its input."""
        changed = 0
        for node in ir.all_nodes(model):
            source = _unchanged_input(node)
            if source is None:
                continue
            if reason := ir.bypass(node, source):
                ctx.skipped[self.name, reason] += 1
            else:
                changed += 1
        return changed


def _unchanged_input(node: ir.Node) -> ir.Value | None:
    """Return the input the node hands on, or None when it changes it."""
    rule = _RULES.get(node.op_type) if not node.domain else None
    source = rule(node) if rule is not None and node.inputs else None
    if source is None or source.dtype != node.outputs[0].dtype:
        return None
    return source if source.shape == node.outputs[0].shape else None


def _always(node: ir.Node) -> ir.Value | None:
    return node.inputs[0]


def _dropout(node: ir.Node) -> ir.Value | None:
    training = node.inputs[2] if len(node.inputs) > 2 else None
    flag = ir.constant_array(training) if training is not None else np.zeros(())
    return node.inputs[0] if flag is not None and not flag.any() else None


def _single(node: ir.Node) -> ir.Value | None:
    return node.inputs[0] if len(node.inputs) == 1 else None


def _add(node: ir.Node) -> ir.Value | None:
    """Adding -0 changes nothing; adding +0 turns -0 into +0, so only integers may."""
    for x, other in (node.inputs, node.inputs[::-1]):
        if _is_all(other, 0) and (_is_integer(other) or np.all(np.signbit(_array(other)))):
            return x
    return None


def _sub(node: ir.Node) -> ir.Value | None:
    other = node.inputs[1]
    positive = _is_all(other, 0) and not np.any(np.signbit(_array(other)))
    return node.inputs[0] if positive else None


def _mul(node: ir.Node) -> ir.Value | None:
    for x, other in (node.inputs, node.inputs[::-1]):
        if _is_all(other, 1):
            return x
    return None


def _div_or_pow(node: ir.Node) -> ir.Value | None:
    return node.inputs[0] if _is_all(node.inputs[1], 1) else None


def _neg(node: ir.Node) -> ir.Value | None:
    x = node.inputs[0]
    before = x.producer() if x is not None else None
    return before.inputs[0] if before is not None and before.op_type == "Neg" else None


def _slice(node: ir.Node) -> ir.Value | None:
    """A slice of the same size takes everything; only its direction is left to ask."""
    steps = node.inputs[4] if len(node.inputs) > 4 else None
    array = ir.constant_array(steps) if steps is not None else np.ones(1)
    return node.inputs[0] if array is not None and int(np.min(array)) > 0 else None


def _pad(node: ir.Node) -> ir.Value | None:
    return node.inputs[0] if _is_all(node.inputs[1], 0) else None


def _array(value: ir.Value | None) -> ir.Array:
    array = ir.constant_array(value)
    return np.zeros(0) if array is None else array


def _is_integer(value: ir.Value | None) -> bool:
    return value is not None and value.dtype is not None and not value.dtype.is_floating_point()


def _is_all(value: ir.Value | None, number: int) -> bool:
    """Look at constants of a single number, or of a small vector: others are never neutral."""
    if value is None or not ir.is_constant(value) or value.const_value is None:
        return False
    if value.const_value.size > 4096 or value.dtype is ir.DataType.STRING:
        return False
    array = _array(value)
    return array.size > 0 and bool(np.all(array == number))


_RULES: dict[str, Callable[[ir.Node], ir.Value | None]] = {
    "Identity": _always,
    "Expand": _always,
    "Tile": _always,
    "Dropout": _dropout,
    "Concat": _single,
    "Sum": _single,
    "Mean": _single,
    "Max": _single,
    "Min": _single,
    "Add": _add,
    "Sub": _sub,
    "Mul": _mul,
    "Div": _div_or_pow,
    "Pow": _div_or_pow,
    "Neg": _neg,
    "Slice": _slice,
    "Pad": _pad,
}
