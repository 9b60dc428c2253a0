"""Which kernels of ours compute a region."""

from __future__ import annotations

from collections.abc import Callable

from gcompile import ir
from gcompile.backends.cuda.lowering.anchor import Anchor
from gcompile.backends.cuda.lowering.anchors import anchor_of
from gcompile.backends.cuda.lowering.batched_anchor import batched_anchor
from gcompile.backends.cuda.lowering.depthwise_anchor import depthwise_anchor
from gcompile.backends.cuda.lowering.join_anchor import join_anchor
from gcompile.backends.cuda.lowering.pool_anchor import pool_anchor
from gcompile.backends.cuda.lowering.rows_anchor import ROWS, rows_anchor
from gcompile.backends.cuda.lowering.stored_anchor import stored_anchor
from gcompile.backends.tvm.lowering.windows import POOLS
from gcompile.targets import Target


def region_anchor(
    region: ir.Region, target: Target, arch: int, lies_last: Callable[[ir.Value], bool]
) -> Anchor:
    """Give a region kernels of ours.

    Args:
        region: Any region.
        target: The GPU that tiles are chosen for.
        arch: Its architecture: 80 for sm_80.
        lies_last: Whether an image lies with its channels last already. Products want it so in
            any case; pools and concatenations do not pay for that.

    Raises:
        CannotEmitError: There are none for it.
    """
    if region.weight_decoder is not None:
        return stored_anchor(region, target, arch)
    if any(node.op_type in ROWS for node in region.nodes):
        return rows_anchor(region, target, arch)
    node = region.anchor
    if node is not None and ir.is_batched_product(node):
        return batched_anchor(region, target, arch)
    if node is None and any(node.op_type in POOLS for node in region.nodes):
        return pool_anchor(region, target, arch, lies_last)
    if node is None and any(node.op_type == "Concat" for node in region.nodes):
        return join_anchor(region, arch, lies_last)
    shape = ir.contraction_of(node) if node is not None else None
    if shape is not None and shape.is_depthwise:
        return depthwise_anchor(region, target, arch)
    return anchor_of(region, target, arch)
