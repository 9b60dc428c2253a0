"""Which models can be compiled at all: asked before any work starts."""

from __future__ import annotations

import numpy as np

from gcompile import ir
from gcompile.backends.tvm.fallback import refusal
from gcompile.backends.tvm.lowering.loops import refusal_of_loop
from gcompile.backends.tvm.lowering.recurrences import refusal_of_recurrence
from gcompile.backends.tvm.plain.kernels import has_plain_code
from gcompile.backends.tvm.suggestions import suggestion_for
from gcompile.errors import CompileError, UnsupportedNode, UnsupportedOperatorsError
from gcompile.runtime.entry_point import DTYPES

_LOWERED_HERE = frozenset({"If", "Loop", "QuantizeLinear", "DequantizeLinear", "Mish"})
_OWN = ("", ir.NEWER, ir.BOUNDED)
_MOSTLY_LOWERED_HERE = frozenset({"ConvTranspose", "Resize"})
"""Operators whose attributes our kernels know better than the importer does: what a kernel then
declines is refused in its turn by `refuse_fallback`."""


def refuse_unsupported(model: ir.Model, kind: str = "cpu") -> None:
    """List every node that nothing can compile for a kind of target, strings and shapes included.

    Raises:
        UnsupportedOperatorsError: Naming each node, why, and what to do about it.
        CompileError: An input or output has a type the runtime does not take.
    """
    found = ir.refused_nodes(model)
    listed = {node.name for node in found}
    found += [
        _unsupported(node, reason)
        for node in ir.all_nodes(model)
        if node.name not in listed and (node.domain not in _OWN or _has_shapes(node))
        if (reason := _refusal(node, kind)) is not None
    ]
    if found:
        raise UnsupportedOperatorsError(found)
    for value in (*model.graph.inputs, *model.graph.outputs):
        _refuse_type(value)


def refuse_early(model: ir.Model, kind: str = "cpu") -> None:
    """Refuse what no pass can help, strings and unknown shapes, and list what else is missing.

    Raises:
        UnsupportedOperatorsError: Naming each node, why, and what to do about it.
    """
    if not ir.refused_nodes(model):
        return
    folded = model.clone()  # Arithmetic on shapes is no reason to refuse a model.
    ir.fold_shape_arithmetic(folded)
    ir.remove_unused(folded)
    refuse_unsupported(folded, kind)


def refuse_fallback(node: ir.Node) -> None:
    """Refuse a node for which there is no kernel, where the importer would get it wrong.

    Raises:
        UnsupportedOperatorsError: Naming the node.
    """
    if node.domain or node.op_type not in _MOSTLY_LOWERED_HERE:
        return
    reason = refusal(ir.node_proto(node))
    if reason is None and node.op_type == "Resize":
        reason = _refusal_of_resize(node)
    if reason is not None:
        raise UnsupportedOperatorsError([_unsupported(node, reason)])


def _refusal_of_resize(node: ir.Node) -> str | None:
    """The importer knows height and width only, whatever the scales, and derives them itself."""
    before, after = (ir.static_shape(value) for value in (node.inputs[0], node.outputs[0]))
    if before[:2] != after[:2]:
        return "only height and width are resized"
    given = ir.constant_array(node.inputs[2]) if len(node.inputs) > 2 else None
    if given is None or not given.size:
        return None
    scales = np.asarray(given, np.float64)[-len(before[2:]) :]
    if not np.allclose(scales * before[2:], after[2:], atol=1e-4):
        return "the importer reads its scales as those between whole sizes"
    return None


def _unsupported(node: ir.Node, reason: str) -> UnsupportedNode:
    place = ir.place_of([node])
    return UnsupportedNode(
        name=str(node.name),
        operator=f"{node.domain}.{node.op_type}" if node.domain not in _OWN else node.op_type,
        reason=reason,
        suggestion=suggestion_for(node),
        place=str(place) if place else "",
    )


def _refusal(node: ir.Node, kind: str) -> str | None:
    if node.op_type in _LOWERED_HERE | _MOSTLY_LOWERED_HERE and not node.domain:
        return refusal_of_loop(node, kind)
    if has_plain_code(node):
        if kind != "gpu" or refusal(ir.node_proto(node)) is None:
            return None
        return "only CPUs have a kernel for it"
    if ir.recurrence_of(node) is not None:
        return refusal_of_recurrence(node)
    if node.op_type == "TopK" and _dtype(node.inputs[0]) is ir.DataType.UINT64:
        return "TVM does not sort whole numbers of 64 bits without a sign"
    return refusal(ir.node_proto(node))


def _has_shapes(node: ir.Node) -> bool:
    """What follows an unknown shape is not looked at: it may be fine."""
    values = (value for value in (*node.inputs, *node.outputs) if value is not None and value.name)
    return all(
        ir.is_constant(value) or (value.shape is not None and value.shape.is_static())
        for value in values
    )


def _dtype(value: ir.Value | None) -> ir.DataType | None:
    return value.dtype if value is not None else None


def _refuse_type(value: ir.Value) -> None:
    dtype = (value.dtype or ir.DataType.FLOAT).numpy().name
    if dtype not in DTYPES:
        raise CompileError(
            f"The model takes or gives {value.name!r} as {dtype}, which plain numpy arrays cannot "
            "hold. Cast it to float32 at the border of the model."
        )
