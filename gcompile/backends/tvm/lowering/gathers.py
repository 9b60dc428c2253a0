"""Gather with numbers that are only known at run time, or that no few boxes describe."""

from __future__ import annotations

import math

import numpy as np
from tvm import relax

from gcompile import ir
from gcompile.backends.tvm.kernels.gather import GatherKernel
from gcompile.backends.tvm.kernels.spec import Accumulator, Image, Output, Source
from gcompile.backends.tvm.lowering.boxes import copies_of
from gcompile.backends.tvm.lowering.memory import Memory, array_of
from gcompile.backends.tvm.lowering.placement import DTYPES, Layout, Placement, rows_image
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError

_INDICES = {ir.DataType.INT32: "int32", ir.DataType.INT64: "int64"}


def gathers_rows(region: ir.Region) -> bool:
    """Say whether the region is a Gather that is not better done as a copy of boxes."""
    node = region.nodes[0]
    if len(region.nodes) > 1 or node.op_type != "Gather" or node.domain:
        return False
    try:
        copies_of(node)
    except CannotEmitError:
        return True
    return False


def lower_gather(region: ir.Region, memory: Memory) -> None:
    """Emit a region of one Gather."""
    (node,) = region.nodes
    table, indices, result = node.inputs[0], node.inputs[1], node.outputs[0]
    if table is None or indices is None or indices.dtype not in _INDICES:
        raise CannotEmitError("the indices of Gather are no integers")
    # Kernels compute in float32, which holds every number of the other types.
    if table.dtype not in DTYPES or table.dtype is ir.DataType.INT32:
        raise CannotEmitError(f"a table has type {table.dtype}")
    sizes, shape = ir.static_shape(table), ir.static_shape(result)
    count = math.prod(ir.static_shape(indices))
    if not math.prod(sizes) or not count:
        raise CannotEmitError("nothing is picked")
    axis = node.attributes.get_int("axis", 0) % len(sizes)
    tables, inner = math.prod(sizes[:axis]), math.prod(sizes[axis + 1 :])
    source = memory.tensor(table)
    numbers, index_dtype = index_tensor(indices, memory)
    dtype = source.image.dtype
    kernel = GatherKernel(
        output=Output(Image(1, tables, count, inner, dtype, declared=shape)),
        expression=Accumulator(),
        x=Source(Image(1, tables, sizes[axis], inner, dtype, declared=source.shape)),
        index_dtype=index_dtype,
        index_shape=ir.static_shape(indices),
        **memory.emission.shared(region.tile.threads if region.tile else 1),
    )
    var = memory.emission.call(kernel, [source.var, numbers], kernel.output.image)
    memory.put(result, Placement(var, Layout.ROWS, rows_image(shape, dtype)))


def index_tensor(indices: ir.Value, memory: Memory) -> tuple[relax.Expr, str]:
    """The variable of row numbers and its type. Constants take half the memory.

    Raises:
        CannotEmitError: They are no integers.
    """
    if indices.dtype not in _INDICES:
        raise CannotEmitError("the numbers of rows are no integers")
    if ir.is_constant(indices):
        return memory.emission.constant(array_of(indices).astype(np.int32)), "int32"
    return memory.plain(indices), _INDICES[indices.dtype or ir.DataType.INT64]
