"""Which models can be compiled at all: asked before any work starts."""

from __future__ import annotations

from gcompile import ir
from gcompile.backends.tvm.fallback import refusal
from gcompile.backends.tvm.lowering.recurrences import refusal_of_recurrence
from gcompile.errors import CompileError, UnsupportedOperatorsError
from gcompile.runtime.manifest import DTYPES

_LOWERED_HERE = frozenset({"If", "QuantizeLinear", "DequantizeLinear", "Mish"})
_MOSTLY_LOWERED_HERE = frozenset({"ConvTranspose", "Resize"})
"""Operators whose attributes our kernels know better than the importer does: what a kernel then
declines is refused in its turn by `refuse_fallback`."""


def refuse_unsupported(model: ir.Model) -> None:
    """List every node that nothing can compile.

    Raises:
        UnsupportedOperatorsError: Naming each operator and its nodes.
        CompileError: An input or output has a type the runtime does not take.
    """
    found: dict[str, list[str]] = {}
    for node in ir.all_nodes(model):
        if node.op_type in _LOWERED_HERE and not node.domain:
            continue
        if node.op_type in _MOSTLY_LOWERED_HERE and not node.domain:
            continue
        if _refusal(node) is not None:
            name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            found.setdefault(name, []).append(_named(node))
    if found:
        raise UnsupportedOperatorsError(found)
    for value in (*model.graph.inputs, *model.graph.outputs):
        _refuse_type(value)


def refuse_fallback(node: ir.Node) -> None:
    """Refuse a node for which there is no kernel, where the importer would get it wrong.

    Raises:
        UnsupportedOperatorsError: Naming the node.
    """
    if node.domain or node.op_type not in _MOSTLY_LOWERED_HERE:
        return
    if _resizes_channels(node) or refusal(ir.node_proto(node)) is not None:
        raise UnsupportedOperatorsError({node.op_type: [_named(node)]})


def _resizes_channels(node: ir.Node) -> bool:
    """The importer knows height and width only, whatever the scales."""
    before, after = (ir.static_shape(value) for value in (node.inputs[0], node.outputs[0]))
    return node.op_type == "Resize" and before[:2] != after[:2]


def _named(node: ir.Node) -> str:
    place = ir.place_of([node])
    return f"{node.name} at {place}" if place else str(node.name)


def _refusal(node: ir.Node) -> str | None:
    if ir.recurrence_of(node) is not None:
        return refusal_of_recurrence(node)
    return refusal(ir.node_proto(node))


def _refuse_type(value: ir.Value) -> None:
    dtype = (value.dtype or ir.DataType.FLOAT).numpy().name
    if dtype not in DTYPES:
        raise CompileError(
            f"The model takes or gives {value.name!r} as {dtype}, which plain numpy arrays cannot "
            "hold. Cast it to float32 at the border of the model."
        )
