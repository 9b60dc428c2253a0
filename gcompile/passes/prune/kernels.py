"""Make the kernels of convolutions smaller: neighbouring pixels say much the same.

A window of h by w of the taps of a kernel stays. Where C is the covariance of the inputs of the
product and B the rows of its weights W that go, what the others cannot make up for is
tr(W_Bᵀ [(C⁻¹)_BB]⁻¹ W_B), as in `eliminate`: of all windows of a size the one that loses least is
taken. Taps go only where the image is padded, so that outputs keep their size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.passes.base import Arrays, Runner
from gcompile.passes.prune.importance import RIDGE
from gcompile.passes.prune.matrices import Matrix, weight_matrix, why_not_fitted
from gcompile.passes.prune.observe import inferences, input_of, observed
from gcompile.passes.prune.products import Product, products
from gcompile.passes.prune.refit import place_for_bias, why_unobserved
from gcompile.passes.prune.ridge import damping
from gcompile.passes.prune.walk import Walk

FIRST_TAPS = "gcompile.first_taps"
"""How many taps a kernel had before any went, in the metadata of its node."""

_IMAGE_RANK = 4


@dataclass(frozen=True)
class Window:
    """The taps of a kernel that stay: `height` by `width` of them from (`top`, `left`) on.

    Attributes:
        error: What the product loses that the taps that stay cannot make up for, as a share of
            the power of its outputs.
    """

    top: int
    left: int
    height: int
    width: int
    error: float = 0.0

    @property
    def taps(self) -> int:
        """How many stay."""
        return self.height * self.width


def shrinkable(model: ir.Model) -> list[Product]:
    """The convolutions whose kernels may lose taps, in the order they run."""
    return [p for p in products(model) if next(_windows(p), None) and not why_unobserved(p)]


def best_windows(
    model: ir.Model, chosen: Sequence[Product], shares: Sequence[float], rows: Arrays, run: Runner
) -> dict[str, list[Window]]:
    """For each product the best window of at most each share of its taps, most taps first.

    The arguments are those of `ranked_windows`.
    """
    ranked = ranked_windows(model, chosen, shares, rows, run)
    return {name: [alike[0] for alike in found] for name, found in ranked.items()}


def ranked_windows(
    model: ir.Model, chosen: Sequence[Product], shares: Sequence[float], rows: Arrays, run: Runner
) -> dict[str, list[list[Window]]]:
    """For each product all windows of the most taps within each share, by rising error.

    Args:
        model: The whole model.
        chosen: Some of its products that are `shrinkable`, in the order they run.
        shares: Shares of the taps.
        rows: Calibration rows.
        run: Runs a model on rows.

    Returns:
        By the name of the product: the windows of each number of taps, most taps first.
    """
    stops = [str(input_of(product).name) for product in chosen]
    count, walk = inferences(model, rows), Walk(model, rows, run)
    found: dict[str, list[list[Window]]] = {}
    for index, product in enumerate(chosen):
        x = walk.go([stops[index]], set(stops[index + 1 :]))[stops[index]]
        moments = observed(product, x, None, count, range(count))
        centred = place_for_bias(product) is not None
        losses = _Losses.of(weight_matrix(product), moments.covariance(centred=centred))
        ranked = (_ranked(product, losses, share) for share in shares)
        by_taps = {alike[0].taps: alike for alike in ranked if alike}
        found[product.name] = [by_taps[taps] for taps in sorted(by_taps, reverse=True)]
    return found


def shrink(model: ir.Model, windows: Mapping[str, Window]) -> list[str]:
    """Cut kernels down to their windows, in place; return the names of those that are there."""
    there = []
    for product in products(model):
        window = windows.get(product.name)
        shape = ir.contraction_of(product.node)
        if window is None or shape is None:
            continue
        node, weight = product.node, product.weight
        array = ir.constant_array(weight)
        assert array is not None
        node.metadata_props.setdefault(FIRST_TAPS, str(first_taps(product)))
        cut = array[
            :,
            :,
            window.top : window.top + window.height,
            window.left : window.left + window.width,
        ]
        weight.const_value = ir.tensor(np.ascontiguousarray(cut), name=weight.name)
        weight.shape = ir.Shape(cut.shape)
        node.attributes.pop("auto_pad", None)
        _set_integers(node, "pads", _pads(shape, window))
        _set_integers(node, "kernel_shape", [window.height, window.width])
        there.append(product.name)
    return there


def first_taps(product: Product) -> int:
    """How many taps a kernel had before any went."""
    height, width = ir.static_shape(product.weight)[2:]
    return int(product.node.metadata_props.get(FIRST_TAPS, str(height * width)))


@dataclass(frozen=True)
class _Losses:
    """What a product loses with rows of its weights.

    Attributes:
        weights: (K, N).
        inverse: The inverse of the covariance of its inputs, (K, K).
        power: The variance of its outputs.
    """

    weights: Matrix
    inverse: Matrix
    power: float

    @classmethod
    def of(cls, weights: Matrix, covariance: Matrix) -> _Losses:
        damped = covariance + damping(covariance, RIDGE) * np.eye(len(covariance))
        power = float(np.einsum("kn,kn->", covariance @ weights, weights))
        return cls(weights, np.asarray(np.linalg.inv(damped), np.float64), max(power, 1e-30))

    def without(self, rows: NDArray[np.int64]) -> float:
        """The loss, as a share of the power of the outputs."""
        lost = self.weights[rows]
        corner = self.inverse[np.ix_(rows, rows)]
        return float(np.einsum("kn,kn->", np.linalg.solve(corner, lost), lost)) / self.power


def _ranked(product: Product, losses: _Losses, share: float) -> list[Window]:
    """The windows of the most taps within a share of all, by rising loss.

    None where the kernel has no more taps than that already.
    """
    channels, height, width = ir.static_shape(product.weight)[1:]
    limit = share * first_taps(product)
    fitting = [window for window in _windows(product) if window.taps <= limit]
    if height * width <= limit or not fitting:
        return []
    most = max(window.taps for window in fitting)
    taps = np.arange(channels * height * width).reshape(channels, height, width)

    def priced(window: Window) -> Window:
        stays = np.zeros_like(taps, dtype=np.bool_)
        rows = slice(window.top, window.top + window.height)
        stays[:, rows, window.left : window.left + window.width] = True
        error = losses.without(taps[~stays])
        return Window(window.top, window.left, window.height, window.width, error)

    alike = (priced(window) for window in fitting if window.taps == most)
    return sorted(alike, key=lambda window: window.error)


def _windows(product: Product) -> Iterator[Window]:
    """All windows smaller than the kernel that keep the size of the output."""
    shape = ir.contraction_of(product.node) if product.node.op_type == "Conv" else None
    weight = ir.static_shape(product.weight)
    if shape is None or len(weight) != _IMAGE_RANK or why_not_fitted(product):
        return
    full_h, full_w = weight[2:]
    for height in range(full_h, 0, -1):
        for width in range(full_w, 0, -1):
            for top in range(full_h - height + 1):
                for left in range(full_w - width + 1):
                    window = Window(top, left, height, width)
                    if window.taps < full_h * full_w and min(_pads(shape, window)) >= 0:
                        yield window


def _pads(shape: ir.Contraction, window: Window) -> list[int]:
    """What is added above, left, below and right of the image."""
    below = shape.kernel_h - window.top - window.height
    right = shape.kernel_w - window.left - window.width
    return [
        shape.pad_top - window.top * shape.dilation_h,
        shape.pad_left - window.left * shape.dilation_w,
        shape.pad_bottom - below * shape.dilation_h,
        shape.pad_right - right * shape.dilation_w,
    ]


def _set_integers(node: ir.Node, name: str, numbers: list[int]) -> None:
    node.attributes[name] = ir.Attr(name, ir.AttributeType.INTS, numbers)
