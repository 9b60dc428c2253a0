"""ScatterElements and ScatterND that replace rows: in place, or in a copy.

    cache (an input that nobody else reads) ──→ rows are written into its memory
    anything else                           ──→ a copy of it, whose rows are written

What is written in place costs as much as the rows, however long the cache is. The runtime's
buffers are its own, so that no caller sees an input change.
"""

from __future__ import annotations

from tvm import relax

from gcompile import ir
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    ElementwiseKernel,
    Image,
    Load,
    Output,
    Source,
)
from gcompile.backends.tvm.kernels.write_rows import WriteRowsKernel
from gcompile.backends.tvm.lowering.gathers import index_tensor
from gcompile.backends.tvm.lowering.memory import Memory
from gcompile.backends.tvm.lowering.placement import DTYPES, Layout, Placement, rows_image
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError


def writes_rows(region: ir.Region) -> bool:
    """Say whether the region replaces rows and does nothing else."""
    return len(region.nodes) == 1 and ir.row_write_of(region.nodes[0]) is not None


def only_spreads_numbers(region: ir.Region) -> bool:
    """Say whether the region expands row numbers for writes alone, which take them as they are."""
    node = region.nodes[0]
    if len(region.nodes) > 1 or node.op_type != "Expand" or node.domain:
        return False
    readers = [ir.row_write_of(use.node) for use in node.outputs[0].uses()]
    return (
        bool(readers)
        and not node.outputs[0].is_graph_output()
        and all(r is not None and r.numbers is node.inputs[0] for r in readers)
    )


def lower_row_write(region: ir.Region, memory: Memory) -> None:
    """Emit a region of one node."""
    written = ir.row_write_of(region.nodes[0])
    if written is None:
        raise CannotEmitError("what is scattered is no rows")
    dtype = written.data.dtype or ir.DataType.FLOAT
    # Kernels compute in float32, which holds every number of the other types.
    if dtype not in DTYPES or dtype is ir.DataType.INT32:
        raise CannotEmitError(f"rows have type {dtype}")
    if not written.lines * written.rows * written.count * written.inner:
        raise CannotEmitError("nothing is written")
    updates = memory.tensor(written.updates)
    numbers, index_dtype = index_tensor(written.numbers, memory)
    target = _memory_to_write(written, memory)
    shape = ir.static_shape(written.data)
    kernel = WriteRowsKernel(
        output=Output(
            Image(1, written.lines, written.rows, written.inner, DTYPES[dtype], declared=shape)
        ),
        expression=Accumulator(),
        x=Source(
            Image(
                1, written.lines, written.count, written.inner, DTYPES[dtype],
                declared=updates.shape,
            )
        ),
        index_dtype=index_dtype,
        index_shape=ir.static_shape(written.numbers),
        **memory.emission.shared(region.tile.threads if region.tile else 1),
    )  # fmt: skip
    var = memory.emission.call_in_place(
        kernel, [updates.var, numbers, target], kernel.output.image
    )
    memory.put(written.output, Placement(var, Layout.ROWS, rows_image(shape, DTYPES[dtype])))


def _memory_to_write(written: ir.RowWrite, memory: Memory) -> relax.Expr:
    """The data's own memory, or a copy, under the data's shape."""
    source = memory.tensor(written.data)
    shape = ir.static_shape(written.data)
    if written.is_in_place and source.shape == shape:
        return source.var
    image = rows_image(shape, source.image.dtype)
    kernel = ElementwiseKernel(
        Output(image), Load(0), (Source(source.image),), **memory.emission.shared()
    )
    return memory.emission.call(kernel, [source.var], image)
