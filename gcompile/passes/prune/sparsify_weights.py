"""Set weights to zero that matter least, where the target can do something with zeros.

Zeros save energy only where a unit skips them. Code for dense units multiplies by them as by any
number, so the pass is undone where the model takes as many joules after it as before.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.errors import UsageError
from gcompile.passes.base import Numerics, Pass, PassContext
from gcompile.passes.prune.matrices import store_weights, weight_matrix
from gcompile.passes.prune.products import Product, products

_GROUP, _STAY = 4, 2


class Pattern(StrEnum):
    """Where zeros lie: two in every four channels, or anywhere."""

    TWO_OF_FOUR = "2:4"
    UNSTRUCTURED = "unstructured"


@dataclass(frozen=True)
class SparsifyWeights(Pass):
    """Set the weights of least magnitude to zero.

    Attributes:
        pattern: `2:4` keeps two of every four weights along the input channels, as sparse tensor
            cores take them (Mishra et al., "Accelerating Sparse Deep Neural
            Networks", 2021, arXiv 2104.08378); `unstructured` keeps the largest of each layer.
        ratio: The share of zeros where the pattern leaves it open.
    """

    name: ClassVar[str] = "sparsify-weights"
    numerics: ClassVar[Numerics] = Numerics.LOSSY
    must_save: ClassVar[bool] = True

    pattern: Pattern = Pattern.TWO_OF_FOUR
    ratio: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.ratio < 1.0:
            raise UsageError(f"ratio={self.ratio} must be at least 0 and below 1.")

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        changed = 0
        for product in list(products(model)):
            if reason := self._why_not(product):
                ctx.skipped[self.name, reason] += 1
                continue
            weights = weight_matrix(product)
            mask = self.mask(weights.reshape(_channels(product), -1)).reshape(weights.shape)
            if (weights[~mask] != 0).any():
                store_weights(product, np.where(mask, weights, 0.0))
                changed += 1
        return changed

    def mask(self, weights: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which weights stay, of a matrix with a row for each input channel."""
        size = np.abs(weights)
        if self.pattern is Pattern.UNSTRUCTURED:
            order = np.argsort(size, axis=None, kind="stable")
            mask = np.ones(weights.size, np.bool_)
            mask[order[: int(self.ratio * weights.size)]] = False
            return mask.reshape(weights.shape)
        groups = size.reshape(-1, _GROUP, weights.shape[1])
        rank = np.argsort(np.argsort(-groups, axis=1, kind="stable"), axis=1, kind="stable")
        return np.asarray(rank < _STAY).reshape(weights.shape)

    def _why_not(self, product: Product) -> str | None:
        if product.node.inputs[1] is not product.weight:
            return "its weight is stored narrow"
        if product.weight.dtype is not ir.DataType.FLOAT:
            return "its weight is not fp32"
        if len(product.weight.uses()) > 1:
            return "its weight is shared"
        if product.sums is None:
            return "it is a grouped convolution"
        if product.node.op_type == "ConvTranspose":
            return "it is a transposed convolution"
        channels = _channels(product)
        if self.pattern is Pattern.TWO_OF_FOUR and channels % _GROUP:
            return f"it reads {channels} channels, no multiple of {_GROUP}"
        return None


def _channels(product: Product) -> int:
    """How many channels it sums over."""
    assert product.sums is not None
    return ir.static_shape(product.weight)[product.sums]
