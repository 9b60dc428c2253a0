"""Which nodes have plain kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gcompile import ir
from gcompile.backends.tvm.plain import bits, counted, matrices, roi, suppression, windows
from gcompile.backends.tvm.plain.code import PlainCode

Codes = Callable[[ir.Node], PlainCode | str]
"""Code for a node, or why there is none."""

_STANDARD: Mapping[str, Codes] = {
    **bits.CODES,
    "Pow": bits.power_code,
    **matrices.CODES,
    **roi.CODES,
    **windows.CODES,
}
_BY_DOMAIN: Mapping[str, Mapping[str, Codes]] = {
    "": _STANDARD,
    ir.NEWER: bits.CODES,
    ir.BOUNDED: {**counted.CODES, **suppression.CODES},
}


def plain_code(node: ir.Node) -> PlainCode | str | None:
    """The code of a node, why there is none, or None where the operator has no plain kernel."""
    codes = _BY_DOMAIN.get(node.domain, {}).get(node.op_type)
    return None if codes is None else codes(node)


def has_plain_code(node: ir.Node) -> bool:
    """Say whether a plain kernel computes the node."""
    return isinstance(plain_code(node), PlainCode)
