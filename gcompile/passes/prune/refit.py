"""Refit the weights of products so that a pruned model computes what the whole one did.

In the order they run, each product sees the inputs x that the pruned model gives it, and how far
its output, or the sum it goes into, is from that of the whole model, r. What `ridge` regression
explains of r by x is added to the weights. Correcting sums lets a block take back errors that
reach it past its own products.

Where all that reads the sum is a function that is flat outside of a range, like Relu, errors that
it hides do not count: the fit is repeated with targets that ask for no more than the right side of
the range (see `clipped`), after Zhang et al., "Accelerating Very Deep Convolutional Networks for
Classification and Detection", 2015 (arXiv 1505.06798).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.passes.base import Arrays, Runner
from gcompile.passes.product_bias import ProductBias, bias_of
from gcompile.passes.prune.branches import Stands
from gcompile.passes.prune.clipped import clipped, flat_outside
from gcompile.passes.prune.matrices import (
    Matrix,
    store_weights,
    weight_matrix,
    why_not_fitted,
)
from gcompile.passes.prune.moments import Moments
from gcompile.passes.prune.observe import inferences, input_of, observed
from gcompile.passes.prune.products import Product, products
from gcompile.passes.prune.remove import Kept
from gcompile.passes.prune.ridge import best_ridge, correction
from gcompile.passes.prune.walk import Walk

MOST_INPUTS = 8192
"""A covariance of more inputs takes more memory than most models do."""

_LEAST_TO_SPLIT, _HELD_OUT = 16, 4
"""Of this many inferences or more, every fourth says how hard weights are to be held back."""

_FEW_ROWS_RIDGE = 0.1

_TURNS = 6
"""Fits of one product whose output is clipped: the first to all of it."""


@dataclass
class Refit:
    """Refits products of one pruned model, in place.

    Attributes:
        model: The pruned model.
        reference: The whole model, with the same names.
        kept: The indices of the reference that the pruned model still has.
        rows: Calibration rows.
        run: Runs a model on rows.
        ridge: How hard weights are held back; None asks held-out rows.
        stands: Values that stand for others of the reference, by name.
        skipped: Why products were left as they are, by name.
    """

    model: ir.Model
    reference: ir.Model
    kept: Kept
    rows: Arrays
    run: Runner
    ridge: float | None = None
    stands: Stands = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def these(self, chosen: Sequence[Product]) -> int:
        """Refit these products, which are given in the order they run; count them."""
        fitted = []
        for product in chosen:
            if reason := why_unobserved(product):
                self.skipped[product.name] = reason
            else:
                fitted.append(product)
        stops = [(str(input_of(p).name), str(target_of(p).name)) for p in fitted]
        whole = Walk(self.reference, self.rows, self.run)
        pruned = Walk(self.model, self.rows, self.run)
        for index, (product, (x, target)) in enumerate(zip(fitted, stops, strict=True)):
            later = stops[index:]
            wanted = self.stands.get(target, target)
            expected = whole.go([wanted], {self.stands.get(n, n) for _, n in later[1:]})[wanted]
            inputs = pruned.go([x], {name for stop in later for name in stop})[x]
            expected = self._asked(product, wanted, expected)
            flat = flat_outside(target_of(product))
            for turn in range(1 if flat is None else _TURNS):
                found = np.asarray(pruned.peek([target])[target], np.float32)
                asked = expected if flat is None or not turn else clipped(expected, found, flat)
                self._fit(product, inputs, asked - found)
        return len(fitted)

    def _asked(self, product: Product, name: str, expected: ir.Array) -> NDArray[np.float32]:
        """What the product, or the sum it goes into, is to compute."""
        place = (name, product.channel)
        if place in self.kept:
            expected = np.take(expected, self.kept[place], product.channel)
        return np.asarray(expected, np.float32)

    def _fit(self, product: Product, inputs: ir.Array, missed: ir.Array) -> None:
        bias = place_for_bias(product)
        centred = bias is not None
        seen, held_out = self._moments(product, inputs, missed)
        ridge = self.ridge if self.ridge is not None else _FEW_ROWS_RIDGE
        if held_out is not None:
            if self.ridge is None:
                ridge = best_ridge(seen, held_out, centred=centred)
            seen = seen.plus(held_out)
        change = correction(seen, ridge, centred=centred)
        store_weights(product, weight_matrix(product) + change)
        if bias is not None:
            _shift(self.model, product, bias, seen.mean_error(change))

    def _moments(
        self, product: Product, inputs: ir.Array, missed: ir.Array
    ) -> tuple[Moments, Moments | None]:
        """Of most inferences, and of those held out; all in one where they are few."""
        count = inferences(self.model, self.rows)
        first = count if count < _LEAST_TO_SPLIT else count - count // _HELD_OUT
        seen = observed(product, inputs, missed, count, range(first))
        if first == count:
            return seen, None
        return seen, observed(product, inputs, missed, count, range(first, count), seen.about)


def affected(
    model: ir.Model, changed: Iterable[str], stands: Stands, shrunk: Collection[str] = ()
) -> list[Product]:
    """The products that a pruning has something to do with, in the order they run.

    Args:
        model: The pruned model.
        changed: Values whose indices are fewer, by name.
        stands: Values that stand for others.
        shrunk: Products whose kernels have fewer taps, by name.
    """
    moved = {*changed, *stands}
    found = {product.node: product for product in products(model)}
    chosen = []
    for node in model.graph:
        product = found.get(node)
        is_shrunk = product is not None and product.name in shrunk
        is_moved = is_shrunk or any(value.name in moved for value in ir.read_by(node))
        if is_moved:
            moved.update(str(value.name) for value in node.outputs)
        if product is not None and (
            is_shrunk or input_of(product).name in moved or target_of(product).name in stands
        ):
            chosen.append(product)
    return chosen


def why_unobserved(product: Product) -> str | None:
    """Say why the error of a product cannot be measured and taken back; None where it can."""
    if reason := why_not_fitted(product):
        return reason
    depth = weight_matrix(product).shape[0]
    if depth > MOST_INPUTS:
        return f"its {depth} inputs are too many for a covariance"
    return None


def target_of(product: Product) -> ir.Value:
    """The output of a product, or the sum that is all it goes into."""
    value = product.node.outputs[0]
    while (reader := ir.only_reader(value)) is not None and reader.op_type == "Add":
        total = reader.outputs[0]
        same = reader.inputs[0] is reader.inputs[1]
        if reader.domain or same or ir.static_shape(total) != ir.static_shape(value):
            break
        value = total
    return value


def place_for_bias(product: Product) -> ProductBias | None:
    """Where one number per output channel can be added, if anywhere."""
    bias = bias_of(product.node)
    old = ir.constant_array(bias.constant) if bias is not None else None
    width = ir.static_shape(product.weight)[product.makes]
    if old is not None and not (old.size in (1, width) and old.size == max(old.shape, default=1)):
        return None
    return bias


def _shift(model: ir.Model, product: Product, bias: ProductBias, shift: Matrix) -> None:
    """Add to the bias, or make one."""
    old = ir.constant_array(bias.constant)
    before = old.astype(np.float64).reshape(-1) if old is not None else 0.0
    name = bias.constant.name if bias.constant is not None else f"{product.name}_bias"
    constant = ir.add_constant(
        model.graph, f"{name}_refitted", (before + shift).astype(np.float32)
    )
    bias.set(constant)
    ir.remove_unused(model)
