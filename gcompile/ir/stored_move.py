"""Regions that only rename or transpose memory.

They run on the numbers as stored. A region {dequantize, move, quantize} whose scales are all equal
moves bytes and never computes a real number.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir

from gcompile.ir.constants import is_constant
from gcompile.ir.quantization import quantization_of
from gcompile.ir.region import Region

VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
"""Operators that only rename memory."""

_CONVERSIONS = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast"})


@dataclass(frozen=True)
class StoredMove:
    """One operator, between values as they are stored."""

    node: onnx_ir.Node
    source: onnx_ir.Value
    result: onnx_ir.Value


def stored_move(region: Region) -> StoredMove | None:
    """Read the region as one move of stored numbers, or None when it is none."""
    cores = [node for node in region.nodes if node.op_type not in _CONVERSIONS]
    if len(cores) != 1 or cores[0].domain or len(region.outputs) != 1:
        return None
    (node,) = cores
    if node.op_type not in VIEWS | {"Transpose"}:
        return None
    given = node.inputs[0]
    if given is None or is_constant(given):
        return None
    if len(region.nodes) == 1:
        return StoredMove(node, given, node.outputs[0])
    decoder, encoder = given.producer(), region.nodes[-1]
    if len(region.nodes) != 3 or decoder is None or not _undoes(encoder, decoder):
        return None
    source, result = decoder.inputs[0], region.outputs[0]
    if source is None or decoder not in region.nodes or encoder.inputs[0] is not node.outputs[0]:
        return None
    return StoredMove(node, source, result) if source.dtype is result.dtype else None


def is_view(region: Region) -> bool:
    """Say whether the region only renames memory, of numbers as they are stored too."""
    if all(node.op_type in VIEWS and not node.domain for node in region.nodes):
        return True
    move = stored_move(region)
    return move is not None and move.node.op_type in VIEWS


def _undoes(encoder: onnx_ir.Node, decoder: onnx_ir.Node) -> bool:
    """Say whether what one decodes is encoded by the other as it was stored."""
    pair = (decoder.op_type, encoder.op_type)
    if pair == ("Cast", "Cast"):
        return True
    if pair != ("DequantizeLinear", "QuantizeLinear"):
        return False
    before = quantization_of(decoder)
    return before is not None and before == quantization_of(encoder)
