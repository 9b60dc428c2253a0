"""Choose the kernel of one region."""

from __future__ import annotations

from gcompile import ir
from gcompile.backends.tvm.lowering.elementwise import lower_elementwise
from gcompile.backends.tvm.lowering.expressions import CannotEmitError
from gcompile.backends.tvm.lowering.memory import Memory
from gcompile.backends.tvm.lowering.pools import lower_pool
from gcompile.backends.tvm.lowering.products import lower_convolution, lower_matrix_product
from gcompile.backends.tvm.lowering.windows import POOLS


def lower_region(region: ir.Region, memory: Memory) -> None:
    """Emit the region with one of our kernels.

    Raises:
        CannotEmitError: None of them fits; the reason says why.
    """
    anchor = region.anchor
    if anchor is not None:
        if anchor.op_type == "Conv":
            lower_convolution(region, memory)
        elif anchor.op_type in ("Gemm", "MatMul"):
            lower_matrix_product(region, memory)
        else:
            raise CannotEmitError(f"{anchor.op_type} has no kernel of its own")
    elif any(node.op_type in POOLS for node in region.nodes):
        lower_pool(region, memory)
    else:
        lower_elementwise(region, memory)
