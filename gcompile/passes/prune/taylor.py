"""Order channels by how much the loss changes, to first order, when they go.

Let a gate z scale what the products that read a channel take of it, through their weights w:

    importance = mean over rows of ( dL/dz )²,    dL/dz at z = 1 is  sum over these w of  w · dL/dw

L is the cross-entropy of a row's label where calibration rows have labels. Without labels it is a
random signed sum of the outputs: the mean square is then that of how far all outputs move. After
Molchanov et al., "Importance Estimation for Neural Network Pruning", 2019 (arXiv 1906.10771).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.errors import PassError
from gcompile.passes.base import PassContext
from gcompile.passes.prune.eliminate import Elimination
from gcompile.passes.prune.groups import Group
from gcompile.passes.prune.products import Product, products

_TINY = 1e-300


def by_taylor(
    model: ir.Model, groups: Sequence[Group], ctx: PassContext
) -> dict[str, Elimination]:
    """Order the channels of groups; errors are shares of the importance of all these groups.

    Args:
        model: The whole model, float.
        groups: Groups that products read.
        ctx: Calibration rows, their labels if there are any, and what finds gradients.

    Raises:
        PassError: There are no calibration rows, or nothing that finds gradients.
    """
    if ctx.gradients is None or not ctx.calibration:
        raise PassError(
            "importance=taylor needs calibration rows and gradients, which PyTorch finds. Give "
            "rows with --calib, install gcompile[train], or use importance=reconstruction."
        )
    read = list(products(model))
    gates = {g.name: [_Gate(p, g) for p in read if p.name in g.readers] for g in groups}
    squares = {group.name: np.zeros(group.size) for group in groups}
    for gradients in ctx.gradients(model, ctx.calibration, ctx.labels, ctx.seed):
        for group in groups:
            slopes = sum((gate.slopes(gradients) for gate in gates[group.name]), np.zeros(()))
            squares[group.name] += slopes**2
    total = max(sum(float(each.sum()) for each in squares.values()), _TINY)
    found = {}
    for name, each in squares.items():
        order = np.argsort(each, kind="stable")
        found[name] = Elimination(order, np.cumsum(each[order])[:-1] / total)
    return found


class _Gate:
    """How much of a group's channels one product takes."""

    def __init__(self, product: Product, group: Group) -> None:
        array = ir.constant_array(product.weight)
        assert array is not None
        assert product.sums is not None
        self._name, self._axis = str(product.weight.name), product.sums
        self._weights = np.moveaxis(array.astype(np.float64), self._axis, 0)
        self._places = group.places(product.weight, self._axis)

    def slopes(self, gradients: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float64]:
        """By how much the loss of a row rises with the gate of each channel, to first order."""
        slope = np.moveaxis(gradients[self._name].astype(np.float64), self._axis, 0)
        by_place = (slope * self._weights).reshape(len(slope), -1).sum(axis=1)
        return np.asarray(by_place[self._places].sum(axis=1))
