"""All attention of a graph, and the regions that it takes the place of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.backends.cuda.kernel import Kernel
from gcompile.backends.cuda.lowering.attention_anchor import READER, attention_kernel
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError
from gcompile.ir.attention import FoundAttention, NotAttentionError, Reader, Stored, find_attention
from gcompile.targets import Target

_ANY = Reader((ir.DataType.FLOAT, *READER.types), READER.unit)


@dataclass(frozen=True)
class AttentionCall:
    """Attention with its kernel, and the numbers that the kernel is given, if any."""

    what: FoundAttention
    kernel: Kernel
    numbers: NDArray[np.float32] | None

    @property
    def operands(self) -> tuple[str, ...]:
        """The names of what the kernel reads and writes, in the order of a call."""
        return tuple(argument.name for argument in self.kernel.arguments)


def attentions_of(
    regions: Sequence[ir.Region], target: Target, arch: int, supposed: ir.DataType | None = None
) -> dict[ir.Region, AttentionCall | None]:
    """Find attention.

    Args:
        regions: Those of a graph, in order.
        target: The GPU that blocks are chosen for.
        arch: Its architecture: 80 for sm_80.
        supposed: What vectors are supposed to be stored as; None takes what they are.

    Returns:
        The regions that attention takes the place of; the last one of each has the call.
    """
    region_of = {node: region for region in regions for node in region.nodes}
    written = frozenset(value for region in regions for value in (*region.inputs, *region.outputs))
    place = {region: index for index, region in enumerate(regions)}
    found: dict[ir.Region, AttentionCall | None] = {}
    for region in regions:
        if region.anchor is None or region.batched_product is None or region in found:
            continue
        try:
            reader = READER if supposed is None else _ANY
            what = find_attention(region, region_of, written, reader)
            if supposed is not None:
                what = _stored_as(what, supposed)
            kernel, numbers = attention_kernel(what, _mask_shape(what), target, arch)
        except (CannotEmitError, NotAttentionError):  # Its products have kernels of their own.
            continue
        taken = sorted((region_of[r.nodes[-1]] for r in what.regions), key=place.__getitem__)
        found |= dict.fromkeys(taken)
        found[taken[-1]] = AttentionCall(what, kernel, numbers)
    return found


def _stored_as(found: FoundAttention, dtype: ir.DataType) -> FoundAttention:
    stored = Stored(dtype)
    q, k, v = (replace(operand, stored=stored) for operand in found.operands)
    return replace(found, operands=(q, k, v), output=replace(found.output, stored=stored))


def _mask_shape(what: FoundAttention) -> tuple[int, ...] | None:
    """The shape of the sum of the masks."""
    shapes = [ir.static_shape(mask.value) for mask in what.masks]
    return np.broadcast_shapes(*shapes) if shapes else None
