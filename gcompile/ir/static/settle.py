"""Write out what only looks dynamic: branches, loops and sequences that constants decide."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir
from onnx_ir.passes.common import NameFixPass

from gcompile.ir.infer import infer_graph, is_kept_loop
from gcompile.ir.row_write import IS_ROUND
from gcompile.ir.static.borders import is_tensor
from gcompile.ir.static.branches import inline_branch
from gcompile.ir.static.known import known_array
from gcompile.ir.static.sequences import Elements, return_elements
from gcompile.ir.static.unroll import unroll
from gcompile.ir.unknown_shapes import NOT_UNROLLED
from gcompile.ir.walk import remove_unused
from gcompile.ir.written_out.write_out import write_out

_CONTROL = frozenset({"If", "Loop", "Scan"})


def settle(model: onnx_ir.Model, opset: int) -> bool:
    """Write out what is known, in place, until nothing more is; return whether anything was.

    The shapes of a settled model are to be inferred again.
    """
    changed = False
    while _settle_once(model, opset):
        changed = True
        remove_unused(model)
        NameFixPass()(model)
        infer_graph(model.graph, model.opset_imports)
    return changed


def _settle_once(model: onnx_ir.Model, opset: int) -> bool:
    done = False
    for graph in list(_scopes(model.graph)):
        done |= _settle_control(graph, opset)
        done |= write_out(graph, opset) > 0
        if _has_sequences(graph):
            found = Elements(graph, opset)
            done |= found.settle() > 0
            if graph is model.graph:
                done |= return_elements(graph, found)
    return done


def _scopes(graph: onnx_ir.Graph) -> Iterator[onnx_ir.Graph]:
    """The graph and the branches in it, and bodies of loops whose rounds stay."""
    yield graph
    for node in graph:
        if is_kept_loop(node):
            yield from _scopes(node.attributes["body"].as_graph())
        if node.op_type == "If" and not node.domain:
            for name in ("then_branch", "else_branch"):
                yield from _scopes(node.attributes[name].as_graph())


def _settle_control(graph: onnx_ir.Graph, opset: int) -> bool:
    done = False
    for node in [node for node in graph if node.op_type in _CONTROL and not node.domain]:
        if node.op_type != "If":
            reason = unroll(node, opset)
            done |= reason is None
            if reason is not None:
                done |= NOT_UNROLLED not in node.metadata_props  # Its body settles from now on.
                node.metadata_props[NOT_UNROLLED] = reason
                node.attributes["body"].as_graph().metadata_props[IS_ROUND] = "yes"
        elif any(_is_dynamic(value) for value in node.outputs):
            condition = known_array(node.inputs[0], opset)
            if condition is not None:
                inline_branch(node, bool(condition.reshape(-1)[0]))
                return True
    return done


def _is_dynamic(value: onnx_ir.Value) -> bool:
    """What an If of a known condition need not be: later passes inline the others."""
    if not value.name:
        return False
    if not is_tensor(value):
        return True
    return value.shape is None or not value.shape.is_static()


def _has_sequences(graph: onnx_ir.Graph) -> bool:
    return any(
        "Sequence" in node.op_type or "Optional" in node.op_type
        for node in graph
        if not node.domain
    )
