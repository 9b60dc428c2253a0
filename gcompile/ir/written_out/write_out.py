"""Replace operators that nothing has kernels for by what is written out for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx_ir

from gcompile.ir.newer import NEWER
from gcompile.ir.written_out import (
    contributed,
    convolutions,
    elements,
    indexing,
    learning,
    normalizations,
    optimizers,
    quantized,
    resizing,
    spectral,
    text,
    trees,
    wide,
)
from gcompile.ir.written_out.writer import Writer

Rule = Callable[[Writer], Sequence[onnx_ir.Value | None] | None]
"""Writes a node out and returns what stands for its outputs; None where it cannot, or need not."""

_RULES: Mapping[tuple[str, str], Rule] = {
    **{("", name): rule for name, rule in convolutions.RULES.items()},
    **{("", name): rule for name, rule in elements.RULES.items()},
    **{("", name): rule for name, rule in indexing.RULES.items()},
    **{("", name): rule for name, rule in normalizations.RULES.items()},
    **{("", name): rule for name, rule in quantized.RULES.items()},
    **{("", name): rule for name, rule in resizing.RULES.items()},
    **{("", name): rule for name, rule in spectral.RULES.items()},
    **{("", name): rule for name, rule in text.RULES.items()},
    **{("", name): rule for name, rule in wide.RULES.items()},
    **{("ai.onnx.ml", name): rule for name, rule in learning.RULES.items()},
    **{("ai.onnx.ml", name): rule for name, rule in trees.RULES.items()},
    **{("ai.onnx.preview.training", name): rule for name, rule in optimizers.RULES.items()},
    **{(contributed.DOMAIN, name): rule for name, rule in contributed.RULES.items()},
    **{(NEWER, name): rule for name, rule in indexing.NEWER_RULES.items()},
}


def write_out(graph: onnx_ir.Graph, opset: int) -> int:
    """Write out what can be, in place; return how many nodes were.

    What is written has no shapes yet.
    """
    return sum(_write_out(node, opset) for node in list(graph))


def _write_out(node: onnx_ir.Node, opset: int) -> bool:
    rule = _RULES.get((node.domain, node.op_type))
    if rule is None:
        return False
    writer = Writer(node, opset)
    results = rule(writer)
    if results is None:
        return False
    writer.replace(results)
    return True
