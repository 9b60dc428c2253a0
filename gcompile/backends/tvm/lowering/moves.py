"""Operators that only rename or transpose memory: see `gcompile.ir.stored_move`."""

from __future__ import annotations

from dataclasses import replace

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

_TO_CHANNELS_FIRST = {4: [0, 3, 1, 2], 3: [0, 2, 1]}
_TO_CHANNELS_LAST = {4: [0, 2, 3, 1], 3: [0, 2, 1]}


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


def write_move(move: ir.StoredMove, memory: Memory) -> bool:
    """Emit the move; say whether that was possible."""
    if move.node.op_type in ir.VIEWS:
        return _write_view(move, memory)
    return _write_transpose(move, memory)


def _write_view(move: ir.StoredMove, memory: Memory) -> bool:
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


def _write_transpose(move: ir.StoredMove, memory: Memory) -> bool:
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
