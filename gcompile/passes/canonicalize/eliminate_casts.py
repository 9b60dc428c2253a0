"""Eliminate casts to the type a value already has, and detours through a wider type.

A cast of A to B is lossless when B holds every number of A. Then casting on from B to C is casting
from A to C.
"""

from __future__ import annotations

from dataclasses import dataclass

from gcompile import ir
from gcompile.passes.base import NodePass, Numerics, PassContext, Skip

_FLOAT_BITS = {  # (bits of precision, bits of exponent)
    ir.DataType.BFLOAT16: (8, 8),
    ir.DataType.FLOAT16: (11, 5),
    ir.DataType.FLOAT: (24, 8),
    ir.DataType.DOUBLE: (53, 11),
}
_INTEGER_BITS = {  # (bits of magnitude, has a sign)
    ir.DataType.BOOL: (1, False),
    ir.DataType.UINT8: (8, False),
    ir.DataType.INT8: (7, True),
    ir.DataType.UINT16: (16, False),
    ir.DataType.INT16: (15, True),
    ir.DataType.UINT32: (32, False),
    ir.DataType.INT32: (31, True),
    ir.DataType.UINT64: (64, False),
    ir.DataType.INT64: (63, True),
}


@dataclass(frozen=True)
class EliminateCasts(NodePass):
    """Eliminate casts that change nothing, and lossless detours."""

    name = "eliminate-casts"
    numerics = Numerics.EXACT
    ops = frozenset({"Cast"})

    def matches(self, node: ir.Node) -> bool:
        """The value has the type already, or comes from another cast."""
        return _is_needless(node) or _cast_before(node) is not None

    def rewrite(self, node: ir.Node, ctx: PassContext) -> Skip | None:
        """Bypass the cast, or the one before it."""
        x = node.inputs[0]
        if x is not None and _is_needless(node):
            reason = ir.bypass(node, x)
            return Skip(reason) if reason else None
        before = _cast_before(node)
        source = before.inputs[0] if before is not None else None
        if x is None or source is None or not _is_lossless(source.dtype, x.dtype):
            return Skip("the cast before it may lose digits")
        if source.dtype is node.outputs[0].dtype and ir.bypass(node, source) is None:
            return None
        node.replace_input_with(0, source)
        return None


def _is_needless(node: ir.Node) -> bool:
    x = node.inputs[0]
    return x is not None and x.dtype is not None and x.dtype is node.outputs[0].dtype


def _cast_before(node: ir.Node) -> ir.Node | None:
    x = node.inputs[0]
    before = x.producer() if x is not None else None
    return before if before is not None and before.op_type == "Cast" else None


def _is_lossless(narrow: ir.DataType | None, wide: ir.DataType | None) -> bool:
    """Say whether `wide` holds every number of `narrow`. Types not listed never do."""
    if narrow in _FLOAT_BITS and wide in _FLOAT_BITS:
        return all(a <= b for a, b in zip(_FLOAT_BITS[narrow], _FLOAT_BITS[wide], strict=True))
    if narrow in _INTEGER_BITS and wide in _INTEGER_BITS:
        (bits, signed), (room, sign) = _INTEGER_BITS[narrow], _INTEGER_BITS[wide]
        return bits <= room and signed <= sign
    if narrow in _INTEGER_BITS and wide in _FLOAT_BITS:
        return _INTEGER_BITS[narrow][0] <= _FLOAT_BITS[wide][0]
    return False
