"""Operators that only rename or transpose memory.

They run on the numbers as stored. A region {dequantize, move, quantize} whose scales are all equal
moves bytes and never computes a real number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tvm import relax

from gcompile import ir
from gcompile.backends.tvm.lowering.memory import Memory
from gcompile.backends.tvm.lowering.placement import (
    DTYPES,
    Layout,
    Placement,
    image_of,
    rows_image,
)
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError
from gcompile.backends.tvm.lowering.stored_numbers import quantization
from gcompile.backends.tvm.lowering.windows import stored_input

_CONVERSIONS = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast"})
_TO_CHANNELS_FIRST = {4: [0, 3, 1, 2], 3: [0, 2, 1]}
_TO_CHANNELS_LAST = {4: [0, 2, 3, 1], 3: [0, 2, 1]}


@dataclass(frozen=True)
class Move:
    """One operator, between values as they are stored."""

    node: ir.Node
    source: ir.Value
    result: ir.Value


def stored_move(region: ir.Region) -> Move | None:
    """Read the region as one move of stored numbers, or None when it is none."""
    cores = [node for node in region.nodes if node.op_type not in _CONVERSIONS]
    if len(cores) != 1 or cores[0].domain or len(region.outputs) != 1:
        return None
    node = cores[0]
    if node.op_type not in ir.VIEWS | {"Transpose"}:
        return None
    given = node.inputs[0]
    if given is None or ir.is_constant(given):
        return None
    if len(region.nodes) == 1:
        return Move(node, given, node.outputs[0])
    try:
        stored, scale, zero_point = stored_input(region, given)
        if (scale, zero_point) != _output_quantization(region.nodes[-1]):
            return None
    except CannotEmitError:
        return None
    result = region.outputs[0]
    return Move(node, stored, result) if stored.dtype is result.dtype else None


def without_conversions(region: ir.Region) -> list[ir.Region]:
    """Cut the conversions at the region's border off, so that its core computes real numbers."""
    before = [n for n in region.nodes if n.op_type in ("DequantizeLinear", "Cast")
              and not ir.is_constant(n.inputs[0]) and n.inputs[0] in region.inputs]  # fmt: skip
    after = [n for n in region.nodes[-1:] if n.op_type in ("QuantizeLinear", "Cast")]
    after = [n for n in after if n not in before]
    core = tuple(n for n in region.nodes if n not in before and n not in after)
    if not core or not (before or after):
        return [region]
    return [
        *(ir.Region(str(node.name), (node,)) for node in before),
        ir.Region(region.name, core),
        *(ir.Region(str(node.name), (node,)) for node in after),
    ]


def write_move(move: Move, memory: Memory) -> bool:
    """Emit the move; say whether that was possible."""
    if move.node.op_type in ir.VIEWS:
        return _write_view(move, memory)
    return _write_transpose(move, memory)


def _output_quantization(node: ir.Node) -> tuple[float, int]:
    return quantization(node) if node.op_type == "QuantizeLinear" else (1.0, 0)


def _write_view(move: Move, memory: Memory) -> bool:
    source, result = move.source, move.result
    if result in memory.requests and _keep_image(source, result, memory):
        return True
    placement = memory.tensor(source)
    image = rows_image(ir.static_shape(result), placement.image.dtype)
    image = replace(image, declared=placement.shape)
    memory.put(result, Placement(placement.var, Layout.ROWS, image))
    return True


def _keep_image(source: ir.Value, result: ir.Value, memory: Memory) -> bool:
    """A view that only adds or drops an axis of size 1 keeps its channels-last image."""
    before, after = ir.static_shape(source), ir.static_shape(result)
    if source not in memory.images or {len(before), len(after)} != {3, 4}:
        return False
    if (*before[:2], 1, *before[2:]) != after and before != (*after[:2], 1, *after[2:]):
        return False
    memory.put(result, memory.images[source][0])
    return True


def _write_transpose(move: Move, memory: Memory) -> bool:
    source, result = move.source, move.result
    rank = len(ir.static_shape(source))
    order = list(move.node.attributes.get_ints("perm", list(range(rank))[::-1]))
    to_first = order == _TO_CHANNELS_FIRST.get(rank) and result in memory.requests
    if to_first and _read_as_image(source, result, memory):
        return True
    to_last = order == _TO_CHANNELS_LAST.get(rank) and source in memory.images
    if to_last and _read_as_rows(source, result, memory):
        return True
    if source.dtype not in DTYPES:
        return False
    variable = relax.op.permute_dims(memory.plain(source), order)
    memory.put_rows(result, memory.emission.emit(variable))
    return True


def _read_as_image(source: ir.Value, result: ir.Value, memory: Memory) -> bool:
    """(N, H, W, C) in logical order is the channels-last image of (N, C, H, W)."""
    rows = memory.tensor(source)
    image = replace(image_of(result, Layout.CHANNELS_LAST), declared=rows.shape)
    if image.channels != ir.static_shape(result)[1]:
        return False
    memory.put(result, Placement(rows.var, Layout.CHANNELS_LAST, image))
    return True


def _read_as_rows(source: ir.Value, result: ir.Value, memory: Memory) -> bool:
    placement = memory.images[source][0]
    image = placement.image
    if any(image.halo) or image.channels != ir.static_shape(source)[1]:
        return False
    rows = rows_image(ir.static_shape(result), image.dtype)
    rows = replace(rows, declared=placement.shape)
    memory.put(result, Placement(placement.var, Layout.ROWS, rows))
    return True
