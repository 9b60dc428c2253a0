"""Weights of which two in every four are zero (2:4) are stored without them, where that pays."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from numpy.typing import NDArray

from gcompile.backends.cuda.kernels.choose_tile import priced_tile
from gcompile.backends.cuda.kernels.pack_sparse import is_sparse, pack_sparse, sparse_pitch
from gcompile.backends.cuda.kernels.product import Product
from gcompile.backends.cuda.kernels.sparse_product import SparseProduct
from gcompile.backends.cuda.kernels.tile_cost import TileCost, Work
from gcompile.backends.cuda.program.instruction import ASYNC_ARCH
from gcompile.errors import TargetError
from gcompile.targets import Target

Array = NDArray[Any]


def sparse_product(
    product: Product, weights: Array, work: Work, cost: TileCost, target: Target, arch: int
) -> tuple[Product, dict[str, Array]] | None:
    """The same product by `mma.sp`, and its constants by the names of its arguments.

    Args:
        product: With dense weights.
        weights: Those, as dense kernels read them: (columns, pitch).
        work: The dense product.
        cost: What it costs.
        target: A GPU.
        arch: Its architecture: 80 for sm_80.

    Returns:
        None where weights have other zeros, the target no unit for them, or the dense product
        takes less energy times time.
    """
    depth = product.contraction.k
    if product.batch > 1 or arch < ASYNC_ARCH or not is_sparse(weights[:, :depth]):
        return None
    try:
        sparse_cost, tile = priced_tile(replace(work, is_sparse=True), target, arch)
    except TargetError:
        return None
    if sparse_cost.energy_j * sparse_cost.time_s >= cost.energy_j * cost.time_s:
        return None
    pitch = sparse_pitch(depth, weights.itemsize)
    same = {field.name: getattr(product, field.name) for field in fields(product)}
    found = SparseProduct(**same | {"tile": tile, "weights_pitch": pitch})
    stored, metadata = pack_sparse(weights[:, :depth], found.stages, found.runs)
    return found, {"weights": stored, "metadata": metadata}
