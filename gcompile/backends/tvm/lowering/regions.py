"""Choose the kernel of one region."""

from __future__ import annotations

from gcompile import ir
from gcompile.backends.tvm.lowering.attention import lower_attention
from gcompile.backends.tvm.lowering.batched import lower_batched_product
from gcompile.backends.tvm.lowering.copies import copy_operator, lower_copies
from gcompile.backends.tvm.lowering.dynamic_scales import lower_dynamic_quantize
from gcompile.backends.tvm.lowering.elementwise import lower_elementwise
from gcompile.backends.tvm.lowering.gathers import gathers_rows, lower_gather
from gcompile.backends.tvm.lowering.memory import Memory
from gcompile.backends.tvm.lowering.pools import lower_pool
from gcompile.backends.tvm.lowering.products import lower_convolution, lower_matrix_product
from gcompile.backends.tvm.lowering.recurrences import lower_recurrence
from gcompile.backends.tvm.lowering.reductions import REDUCTIONS, lower_reduction
from gcompile.backends.tvm.lowering.resizes import lower_resize
from gcompile.backends.tvm.lowering.row_writes import lower_row_write, writes_rows
from gcompile.backends.tvm.lowering.rows import ROW_OPERATORS, lower_rows
from gcompile.backends.tvm.lowering.transposed_convolutions import lower_transposed_convolution
from gcompile.backends.tvm.lowering.weight_only import lower_weight_only
from gcompile.backends.tvm.lowering.windows import POOLS, window_of


def lower_region(region: ir.Region, memory: Memory) -> None:
    """Emit the region with one of our kernels.

    Raises:
        CannotEmitError: None of them fits; the reason says why.
    """
    anchor = region.anchor
    if region.attention is not None:
        lower_attention(region, region.attention, memory)
    elif anchor is not None:
        if anchor.op_type == "Conv":
            lower_convolution(region, memory)
        elif anchor.op_type == "ConvTranspose":
            lower_transposed_convolution(region, memory)
        elif ir.is_batched_product(anchor):
            lower_batched_product(region, memory)
        elif region.weight_decoder is not None:
            lower_weight_only(region, memory)
        else:
            lower_matrix_product(region, memory)
    elif len(region.nodes) == 1 and ir.recurrence_of(region.nodes[0]) is not None:
        lower_recurrence(region, memory)
    elif region.nodes[0].op_type == "DynamicQuantizeLinear":
        lower_dynamic_quantize(region, memory)
    elif gathers_rows(region):
        lower_gather(region, memory)
    elif writes_rows(region):
        lower_row_write(region, memory)
    elif (copied := copy_operator(region)) is not None:
        lower_copies(region, copied, memory)
    elif len(region.nodes) == 1 and region.nodes[0].op_type == "Resize":
        lower_resize(region, memory)
    elif (rows := _first(region, ROW_OPERATORS)) is not None:
        lower_rows(region, rows, memory)
    elif _is_reduction(region):
        lower_reduction(region, memory)
    elif _first(region, POOLS) is not None:
        lower_pool(region, memory)
    else:
        lower_elementwise(region, memory)


def _first(region: ir.Region, operators: frozenset[str]) -> ir.Node | None:
    return next((n for n in region.nodes if n.op_type in operators and not n.domain), None)


def _is_reduction(region: ir.Region) -> bool:
    """One reduction that no pool does better: a mean over height and width is one."""
    node = region.nodes[0]
    if len(region.nodes) > 1 or node.op_type not in REDUCTIONS:
        return False
    return node.op_type != "ReduceMean" or window_of(region) is None
