"""Refit the weights of products so that a pruned model computes what the whole one did.

In the order they run, each product sees the inputs x that the pruned model gives it, and how far
its output, or the sum it goes into, is from that of the whole model, r. The correction

    D = (cov(x) + λ)⁻¹ · cov(x, r),    b = mean(r) - mean(x) · D

minimises |r - x · D - b|² + λ |D|²: ridge regression towards the weights it has. Correcting sums
lets a block take back errors that reach it past its own products.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from gcompile import ir
from gcompile.passes.base import Arrays, Runner
from gcompile.passes.product_bias import ProductBias, bias_of
from gcompile.passes.prune.eliminate import damping
from gcompile.passes.prune.matrices import (
    Matrix,
    input_rows,
    output_rows,
    store_weights,
    weight_matrix,
    why_not_fitted,
)
from gcompile.passes.prune.moments import Moments
from gcompile.passes.prune.observe import every_so_many, inferences, observe
from gcompile.passes.prune.products import Product, products
from gcompile.passes.prune.remove import Kept

ROWS_PER_INPUT, LEAST_ROWS = 64, 1 << 14
"""The error of least squares exceeds the least there is by about one part in 64."""

MOST_INPUTS = 8192
"""A covariance of more inputs takes more memory than most models do."""


@dataclass
class Refit:
    """Refits products of one pruned model, in place.

    Attributes:
        model: The pruned model.
        reference: The whole model, with the same names.
        kept: The indices of the reference that the pruned model still has.
        rows: Calibration rows.
        run: Runs a model on rows.
        ridge: λ as a share of the mean variance of the inputs.
        skipped: Why products were left as they are, by name.
    """

    model: ir.Model
    reference: ir.Model
    kept: Kept
    rows: Arrays
    run: Runner
    ridge: float
    skipped: dict[str, str] = field(default_factory=dict)

    def all_affected(self) -> int:
        """Refit every product that reads something that may have changed; count them."""
        return self.these(list(affected(self.model, self.kept)))

    def these(self, chosen: Sequence[Product]) -> int:
        """Refit these products, which are given in the order they run; count them."""
        count = 0
        for product in chosen:
            if reason := why_unobserved(product):
                self.skipped[product.name] = reason
                continue
            self._fit(product)
            count += 1
        return count

    def _fit(self, product: Product) -> None:
        weights, bias = weight_matrix(product), place_for_bias(product)
        moments = self._moments(product)
        centred = bias is not None
        covariance = moments.covariance() if centred else moments.about_zero()
        damped = covariance + damping(covariance, self.ridge) * np.eye(len(covariance))
        correction = np.asarray(np.linalg.solve(damped, moments.cross(centred=centred)))
        store_weights(product, weights + correction)
        if bias is not None:
            _shift(self.model, product, bias, moments.mean_error(correction))

    def _moments(self, product: Product) -> Moments:
        x, target = str(input_of(product).name), str(target_of(product).name)
        moments = Moments.empty(*weight_matrix(product).shape)
        elements = observed_elements(product)
        picked = picked_rows(product, self.model, self.rows)
        whole = observe(self.reference, [target], self.rows, self.run, elements)
        pruned = observe(self.model, [x, target], self.rows, self.run, elements)
        for expected, found in zip(whole, pruned, strict=True):
            wanted = np.asarray(expected[target], np.float64)
            if (target, product.channel) in self.kept:
                wanted = np.take(wanted, self.kept[target, product.channel], product.channel)
            error = wanted - np.asarray(found[target], np.float64)
            inputs = np.asarray(found[x], np.float32)
            moments.add(input_rows(product, inputs, picked), output_rows(product, error)[picked])
        return moments


def affected(model: ir.Model, kept: Kept) -> Iterator[Product]:
    """The products whose input may have other values than before, in the order they run."""
    changed = {value for value, _ in kept}
    found = {product.node: product for product in products(model)}
    for node in model.graph:
        if any(value is not None and value.name in changed for value in node.inputs):
            changed.update(str(value.name) for value in node.outputs)
            product = found.get(node)
            if product is not None and input_of(product).name in changed:
                yield product


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


def observed_elements(product: Product) -> int:
    """How many numbers an inference makes of what a product reads and writes."""
    sizes = (math.prod(ir.static_shape(v)) for v in (input_of(product), product.node.outputs[0]))
    return sum(sizes)


def picked_rows(product: Product, model: ir.Model, rows: Arrays) -> slice:
    """The rows to look at: enough of them for the weights of a product."""
    depth, width = weight_matrix(product).shape
    pixels = math.prod(ir.static_shape(product.node.outputs[0])) // width
    wanted = max(ROWS_PER_INPUT * depth, LEAST_ROWS)
    return every_so_many(pixels * inferences(model, rows), pixels, wanted)


def input_of(product: Product) -> ir.Value:
    """What a product multiplies with its weights."""
    value = product.node.inputs[0]
    assert value is not None
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
